//! LoRA adapters: open, use beside a model's weights, free.

use std::ffi::c_char;
use std::sync::Arc;

use crate::boundary::boundary;
use crate::handles::{self, Handle};
use crate::model::hb_model;
use crate::pointers::Pointers;
use crate::session::hb_session;
use crate::status::{HB_OK, Outcome, hb_status};

/// A LoRA adapter for the models of one shape. A handle. Immutable: any number of models, sessions
/// and threads may share it.
pub struct hb_adapter {
    _private: [u8; 0],
}

impl Handle for hb_adapter {
    type Object = halfbyte::Adapter;
    const WHAT: &'static str = "adapter";
}

/// Opens a LoRA adapter for model: a PEFT folder (adapter_config.json and
/// adapter_model.safetensors or .bin), a GGUF adapter, or a ggla file of 2023.
///
/// The caller frees it with hb_adapter_free; *adapter is NULL after a failure. HB_INVALID_ARGUMENT
/// if it is more than LoRA (DoRA, trained biases, whole modules) or made for another architecture,
/// and for every model with an encoder; HB_MALFORMED if its matrices are of another size than the
/// model's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_adapter_open(
    model: *mut hb_model,
    path: *const c_char,
    adapter: *mut *mut hb_adapter,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let mut out = given.out(adapter, "place for the adapter")?;
        out.write(std::ptr::null_mut());
        let model = handles::get(model)?;
        let opened = model.here()?.open_adapter(given.text(path, "path")?)?;
        out.write(handles::insert(Arc::new(opened))?);
        Ok(HB_OK)
    })
}

/// Frees an adapter. Models and sessions that use it go on unharmed. NULL is nothing.
#[unsafe(no_mangle)]
pub extern "C" fn hb_adapter_free(adapter: *mut hb_adapter) -> hb_status {
    boundary(|| {
        handles::remove(adapter)?;
        Ok(HB_OK)
    })
}

/// Lets a session read its tokens with n adapters, each times its scale, in place of those that
/// it had; none for n = 0. With scales NULL each counts once.
///
/// Takes microseconds. The tokens stay; what was computed of them is computed anew when it is next
/// needed, unless nothing changes. Results are those of a session that had these adapters from the
/// start. HB_INVALID_ARGUMENT for an adapter of a model of another shape or a scale that is not
/// finite; the session is as before then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_session_set_adapters(
    session: *mut hb_session,
    adapters: *const *mut hb_adapter,
    scales: *const f32,
    n: usize,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let mut lease = handles::get(session)?.lend()?;
        lease.set_adapters(&list(&given, adapters, scales, n)?)?;
        Ok(HB_OK)
    })
}

/// Makes a second model over the same weights that has n adapters, each times its scale, in
/// place of those that model has: everything that starts from it reads its tokens with them. With
/// scales NULL each counts once.
///
/// Takes microseconds and no memory to speak of. The caller frees it with hb_model_free;
/// *adapted is NULL after a failure. Either model may be freed first. HB_INVALID_ARGUMENT for an
/// adapter of a model of another shape or a scale that is not finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hb_model_with_adapters(
    model: *mut hb_model,
    adapters: *const *mut hb_adapter,
    scales: *const f32,
    n: usize,
    adapted: *mut *mut hb_model,
) -> hb_status {
    // SAFETY: the caller keeps the header's rules.
    let given = unsafe { Pointers::new() };
    boundary(|| {
        let mut out = given.out(adapted, "place for the model")?;
        out.write(std::ptr::null_mut());
        let model = handles::get(model)?;
        let made = model.with_adapters(&list(&given, adapters, scales, n)?)?;
        out.write(handles::insert(Arc::new(made))?);
        Ok(HB_OK)
    })
}

/// The adapters of `n` handles with their scales.
fn list(
    given: &Pointers,
    adapters: *const *mut hb_adapter,
    scales: *const f32,
    n: usize,
) -> Outcome<Vec<(halfbyte::Adapter, f32)>> {
    let handles = given.slice(adapters, n, "adapters")?;
    let scales = if scales.is_null() { None } else { Some(given.slice(scales, n, "scales")?) };
    let found = handles.iter().enumerate().map(|(i, &handle)| {
        let adapter = handles::get(handle)?;
        Ok(((*adapter).clone(), scales.map_or(1.0, |scales| scales[i])))
    });
    found.collect()
}

//! A quantized linear layer for any candle model.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Module, Shape, Tensor};

use super::linear::Linear;
use crate::error::{Error, Result};
use crate::kernels::{Activations, Brake, Isa, Plain, Threads, zeroed};
use crate::quant::{Encoding, pack};

/// A linear layer over 4-bit (or other encoded) weights, as a candle [`Module`].
///
/// ```
/// use candle_core::{Device, Module, Tensor};
/// use halfbyte::{QLinear, quant::Encoding};
///
/// let weight = Tensor::randn(0f32, 1., (48, 64), &Device::Cpu)?;
/// let layer = QLinear::from_tensor(&weight, Encoding::Q4_0)?;
/// let x = Tensor::randn(0f32, 1., (2, 64), &Device::Cpu)?;
/// assert_eq!(layer.forward(&x)?.dims(), [2, 48]);
/// # Ok::<(), halfbyte::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct QLinear(Arc<Linear>);

impl QLinear {
    /// Encodes `weight` (n, k).
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedEncoding`] if the encoding can only be read, [`Error::Config`] if k is
    /// no multiple of its block, [`Error::Tensor`] if `weight` is no matrix of floats.
    pub fn from_tensor(weight: &Tensor, encoding: Encoding) -> Result<Self> {
        Self::with_bias(weight, None, encoding)
    }

    /// Encodes `weight` (n, k); `bias` (n) stays f32.
    ///
    /// # Errors
    ///
    /// As [`from_tensor`](Self::from_tensor), and [`Error::Shape`] if the bias is not n long.
    pub fn with_bias(weight: &Tensor, bias: Option<&Tensor>, encoding: Encoding) -> Result<Self> {
        let (n, k) = weight.dims2()?;
        let rows = weight.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let row_bytes = encoding.row_bytes(k).filter(|_| k > 0 && n > 0).ok_or_else(|| {
            let block = encoding.block_len();
            let reason =
                format!("({n}, {k}) needs rows in blocks of {block} for {}", encoding.name());
            Error::config("weight", reason)
        })?;
        let mut bytes = zeroed::<u8>(n.saturating_mul(row_bytes))?;
        for (row, out) in rows.iter().zip(bytes.chunks_exact_mut(row_bytes)) {
            encoding.encode(row, out)?;
        }
        let packed = threads()?
            .install(|| pack(encoding, (n, k), |i| &bytes[i * row_bytes..][..row_bytes]))?;
        let bias = bias.map(|b| b.to_dtype(DType::F32)?.to_vec1::<f32>()).transpose()?;
        if let Some(found) = bias.as_ref().map(Vec::len).filter(|&len| len != n) {
            return Err(Error::Shape {
                tensor: "bias".into(),
                expected: vec![n],
                found: vec![found],
            });
        }
        Ok(Self(Arc::new(Linear::new(packed, bias))))
    }
}

impl Module for QLinear {
    /// `x` (…, k) → (…, n).
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        x.to_dtype(DType::F32)?.contiguous()?.apply_op1_no_bwd(self)
    }
}

impl CustomOp1 for QLinear {
    fn name(&self) -> &'static str {
        "halfbyte-qlinear"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let weight = self.0.weight();
        let (n, k) = (weight.n(), weight.k());
        let mut dims = layout.shape().dims().to_vec();
        if dims.last() != Some(&k) {
            candle_core::bail!("QLinear takes (…, {k}), found {:?}", layout.shape());
        }
        dims.pop();
        dims.push(n);
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("QLinear takes a contiguous tensor");
        };
        let x = &storage.as_slice::<f32>()?[start..end];
        let threads = threads().map_err(candle_core::Error::wrap)?;
        let rows = x.len() / k;
        let mut out = zeroed(rows * n).map_err(candle_core::Error::wrap)?;
        threads
            .enter(|team| {
                let mut activations = Activations::default();
                activations.fill(team, &Plain { x, k }, (rows, k), self.0.needs())?;
                let out = (out.as_mut_slice(), n);
                self.0.forward(team, &Brake::none(), &mut activations, out, 0, false);
                Ok::<_, Error>(())
            })
            .map_err(candle_core::Error::wrap)?;
        Ok((CpuStorage::F32(out), Shape::from(dims)))
    }
}

/// The threads of all layers: a candle model has no place to keep its own.
fn threads() -> Result<&'static Threads> {
    static THREADS: OnceLock<Threads> = OnceLock::new();
    match THREADS.get() {
        Some(threads) => Ok(threads),
        None => {
            let threads = Threads::new(None, Isa::choose()?)?;
            Ok(THREADS.get_or_init(|| threads))
        }
    }
}

//! Handles: what C holds of an object is its place in a table, and never its address.
//!
//! A handle is the slot's generation in the upper half of a pointer, the slot's index and a set
//! bit in the lower half. The generation grows whenever a slot is freed, so an old handle finds
//! nobody; the bit makes it odd, so that it is never NULL and never the address of an object.
//! Whoever looks up an object gets an [`Arc`], so it outlives its handle until the call ends.

use std::any::Any;
use std::sync::{Arc, PoisonError, RwLock};

use crate::status::{Failure, HB_INVALID_HANDLE, HB_NULL_ARGUMENT, HB_OUT_OF_MEMORY, Outcome};

/// A type of handle in the header.
pub(crate) trait Handle: Sized {
    /// What it stands for.
    type Object: Any + Send + Sync;
    /// What messages call it.
    const WHAT: &'static str;
}

struct Slot {
    generation: usize,
    object: Option<Arc<dyn Any + Send + Sync>>,
}

struct Table {
    slots: Vec<Slot>,
    /// Slots without an object whose generation may still grow.
    free: Vec<usize>,
}

static TABLE: RwLock<Table> = RwLock::new(Table { slots: Vec::new(), free: Vec::new() });

const HALF: u32 = usize::BITS / 2;
const MAX_GENERATION: usize = (1 << HALF) - 1;
const MAX_SLOTS: usize = 1 << (HALF - 1);

fn encode<H>(index: usize, generation: usize) -> *mut H {
    std::ptr::without_provenance_mut((generation << HALF) | (index << 1) | 1)
}

/// (index, generation) of a handle.
fn decode<H>(handle: *const H) -> Option<(usize, usize)> {
    let bits = handle.addr();
    (bits & 1 == 1).then_some(((bits & MAX_GENERATION) >> 1, bits >> HALF))
}

/// Puts `object` into the table.
pub(crate) fn insert<H: Handle>(object: Arc<H::Object>) -> Outcome<*mut H> {
    let object: Arc<dyn Any + Send + Sync> = object;
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(index) = table.free.pop() {
        let slot = &mut table.slots[index];
        slot.object = Some(object);
        return Ok(encode(index, slot.generation));
    }
    let index = table.slots.len();
    if index == MAX_SLOTS {
        return Err(Failure::new(HB_OUT_OF_MEMORY, format!("there are {MAX_SLOTS} handles")));
    }
    table.slots.push(Slot { generation: 1, object: Some(object) });
    Ok(encode(index, 1))
}

/// The object of `handle`.
pub(crate) fn get<H: Handle>(handle: *const H) -> Outcome<Arc<H::Object>> {
    let (index, generation) = checked(handle)?;
    let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
    let slot = table.slots.get(index).filter(|slot| slot.generation == generation);
    let object = slot.and_then(|slot| slot.object.clone());
    object.and_then(|object| object.downcast().ok()).ok_or_else(invalid::<H>)
}

/// Frees `handle`; the object goes when the last call that uses it has ended. NULL is nothing.
pub(crate) fn remove<H: Handle>(handle: *const H) -> Outcome<()> {
    if handle.is_null() {
        return Ok(());
    }
    let (index, generation) = checked(handle)?;
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    let slot = table.slots.get_mut(index).filter(|slot| slot.generation == generation);
    let slot = slot.filter(|slot| slot.object.as_ref().is_some_and(|o| (**o).is::<H::Object>()));
    let Some(slot) = slot else { return Err(invalid::<H>()) };
    let object = slot.object.take();
    // A slot whose generations are used up is never used again.
    if slot.generation < MAX_GENERATION {
        slot.generation += 1;
        table.free.push(index);
    }
    // What an object does when it goes must not happen under the lock.
    drop(table);
    drop(object);
    Ok(())
}

fn checked<H: Handle>(handle: *const H) -> Outcome<(usize, usize)> {
    if handle.is_null() {
        return Err(Failure::new(HB_NULL_ARGUMENT, format!("the {} is NULL", H::WHAT)));
    }
    decode(handle).ok_or_else(invalid::<H>)
}

fn invalid<H: Handle>() -> Failure {
    let what = H::WHAT;
    Failure::new(HB_INVALID_HANDLE, format!("the {what} was freed, or never was a {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Apple;
    struct Pear;

    impl Handle for Apple {
        type Object = String;
        const WHAT: &'static str = "apple";
    }

    impl Handle for Pear {
        type Object = u32;
        const WHAT: &'static str = "pear";
    }

    #[test]
    fn only_a_living_handle_of_its_kind_finds_its_object() {
        let apple = insert::<Apple>(Arc::new("red".to_owned())).unwrap();
        assert_eq!(*get(apple).unwrap(), "red");
        let status = |pear: *mut Pear| get(pear).map_err(|failure| failure.status).map(|_| ());
        assert_eq!(status(apple.cast()), Err(HB_INVALID_HANDLE));
        assert_eq!(status(std::ptr::null_mut()), Err(HB_NULL_ARGUMENT));
        assert!(remove::<Pear>(apple.cast()).is_err());
        let held = get(apple).unwrap();
        remove(apple).unwrap();
        assert!(remove(apple).is_err() && get(apple).is_err());
        assert_eq!(*held, "red", "a call keeps its object");
        remove::<Apple>(std::ptr::null_mut()).unwrap();
    }

    #[test]
    fn a_slot_that_is_used_again_has_another_handle() {
        let mut seen = std::collections::HashSet::new();
        for i in 0..1000 {
            let pear = insert::<Pear>(Arc::new(i)).unwrap();
            assert!(seen.insert(pear.addr()), "{i}");
            assert_eq!(pear.addr() % 2, 1);
            remove(pear).unwrap();
            assert!(get(pear).is_err());
        }
    }

    #[test]
    fn random_numbers_are_no_handles() {
        let pear = insert::<Pear>(Arc::new(7)).unwrap();
        let mut bits: usize = 0x9E37_79B9;
        for _ in 0..10_000 {
            bits = bits.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1) ^ (bits >> 7);
            let wrong: *mut Apple = std::ptr::without_provenance_mut(bits);
            assert!(get(wrong).is_err(), "{bits:x}");
        }
        assert_eq!(*get(pear).unwrap(), 7);
        remove(pear).unwrap();
    }
}

//! Pointers from C: the only place that reads and writes through them.

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use crate::status::{Failure, HB_BUFFER_TOO_SMALL, HB_INVALID_UTF8, HB_NULL_ARGUMENT, Outcome};

/// More tokens, messages or stop texts than this are a slip: no context holds as many.
pub(crate) const MAX_ITEMS: usize = 1 << 24;

/// No context holds a longer text. It bounds what no brake stops: tokenizing this much takes about
/// a second, and half a gigabyte.
const MAX_TEXT_BYTES: usize = 1 << 22;

/// No struct of a later version will be larger.
const MAX_STRUCT_BYTES: usize = 4096;

/// The proof that the pointers of one call keep the header's rules.
///
/// A pointer is NULL, or it points to what its comment says, which nobody else writes (or, where
/// it is an output, touches) before the call returns.
pub(crate) struct Pointers(());

/// A struct that later versions may append fields to.
///
/// # Safety
///
/// `repr(C)`, a `usize` with the size of the struct first, and every pattern of bits is a value.
pub(crate) unsafe trait Growing: Copy {
    /// The struct's name.
    const WHAT: &'static str;
    /// Its size in each version, oldest first. A version that appends fields appends its size, by
    /// [`size_up_to`], and leaves the others alone: programs were compiled with them.
    const SIZES: &'static [usize];
}

/// The size of a struct `T` whose last field ends at `end`.
pub(crate) const fn size_up_to<T>(end: usize) -> usize {
    end.next_multiple_of(align_of::<T>())
}

/// A place for one result.
pub(crate) struct Out<'a, T>(NonNull<T>, PhantomData<&'a mut T>);

/// A place for a struct that may be of another version's size.
pub(crate) struct Record<'a, T>(NonNull<T>, usize, PhantomData<&'a mut T>);

/// A place for as many elements as a result may have, and for how many those are.
pub(crate) struct Buffer<'a, T> {
    what: &'static str,
    start: *mut T,
    capacity: usize,
    n: Out<'a, usize>,
}

impl Pointers {
    /// # Safety
    ///
    /// Every pointer that is handed to the methods of this value is an argument of the current call
    /// or was found in one, and keeps the header's rules until this value is dropped.
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }

    /// A text that ends with NUL.
    pub(crate) fn text(&self, pointer: *const c_char, what: &str) -> Outcome<&str> {
        if pointer.is_null() {
            return Err(null(what));
        }
        // SAFETY: it is a text that ends with NUL and that nobody changes during the call.
        let text = unsafe { CStr::from_ptr(pointer) };
        let n = text.count_bytes();
        if n > MAX_TEXT_BYTES {
            let reason = format!("{n} bytes are more than {MAX_TEXT_BYTES}");
            return Err(Failure::argument(what, reason));
        }
        text.to_str().map_err(|error| {
            let at = error.valid_up_to();
            Failure::new(HB_INVALID_UTF8, format!("the {what} is not UTF-8 at byte {at}"))
        })
    }

    /// A text that may be left out.
    pub(crate) fn optional_text(
        &self,
        pointer: *const c_char,
        what: &str,
    ) -> Outcome<Option<&str>> {
        if pointer.is_null() { Ok(None) } else { self.text(pointer, what).map(Some) }
    }

    /// `n` elements, whose patterns of bits are all values; NULL if there are none.
    pub(crate) fn slice<T: Copy>(&self, start: *const T, n: usize, what: &str) -> Outcome<&[T]> {
        if n == 0 {
            return Ok(&[]);
        }
        aligned(start, what)?;
        if n > MAX_ITEMS {
            return Err(Failure::argument(what, format!("{n} is more than {MAX_ITEMS}")));
        }
        // SAFETY: it is aligned, and points to `n` elements that nobody changes during the call.
        Ok(unsafe { std::slice::from_raw_parts(start, n) })
    }

    /// A place for a result.
    pub(crate) fn out<T>(&self, pointer: *mut T, what: &str) -> Outcome<Out<'_, T>> {
        aligned(pointer, what)?;
        NonNull::new(pointer).map(|place| Out(place, PhantomData)).ok_or_else(|| null(what))
    }

    /// A place for elements. NULL with a capacity of 0 only asks how many there are.
    pub(crate) fn buffer<T>(
        &self,
        (start, capacity): (*mut T, usize),
        n: *mut usize,
        what: &'static str,
    ) -> Outcome<Buffer<'_, T>> {
        // Also where nothing is to be written: no elements are at an aligned address, too.
        if capacity > 0 || !start.is_null() {
            aligned(start, what)?;
        }
        let mut n = self.out(n, "place for the count")?;
        n.write(0);
        Ok(Buffer { what, start, capacity, n })
    }

    /// The struct at `pointer` over `defaults`, which stand for what its version did not have.
    pub(crate) fn options<T: Growing>(&self, pointer: *const T, defaults: T) -> Outcome<T> {
        if pointer.is_null() {
            return Ok(defaults);
        }
        let size = size_of_struct(pointer)?;
        let known = size.min(size_of::<T>());
        let beyond = pointer.cast::<u8>().wrapping_add(known);
        // SAFETY: the struct has `size` bytes.
        let beyond = unsafe { std::slice::from_raw_parts(beyond, size - known) };
        if beyond.iter().any(|&byte| byte != 0) {
            let reason = "it sets what only a newer version of halfbyte has";
            return Err(Failure::argument(T::WHAT, reason));
        }
        let mut value = defaults;
        // SAFETY: both have `known` bytes, and any bytes are a value.
        unsafe { ptr::copy_nonoverlapping(pointer.cast::<u8>(), (&raw mut value).cast(), known) };
        Ok(value)
    }

    /// A place for a struct, if the caller wants it.
    pub(crate) fn record<T: Growing>(&self, pointer: *mut T) -> Outcome<Option<Record<'_, T>>> {
        let Some(place) = NonNull::new(pointer) else { return Ok(None) };
        let size = size_of_struct(pointer)?;
        Ok(Some(Record(place, size, PhantomData)))
    }

    /// A place for a struct.
    pub(crate) fn required_record<T: Growing>(&self, pointer: *mut T) -> Outcome<Record<'_, T>> {
        self.record(pointer)?.ok_or_else(|| null(T::WHAT))
    }

    /// Makes the `size` bytes at `pointer` a struct of `value`, and zeros after it.
    pub(crate) fn init<T: Growing>(&self, pointer: *mut T, size: usize, value: T) -> Outcome<()> {
        aligned(pointer, T::WHAT)?;
        let place = NonNull::new(pointer).ok_or_else(|| null(T::WHAT))?;
        check_size::<T>(size)?;
        Record(place, size, PhantomData).write(value);
        Ok(())
    }
}

impl<T> Out<'_, T> {
    pub(crate) fn write(&mut self, value: T) {
        // SAFETY: it is aligned, and the caller's place for a `T`; what was there is no Rust value.
        unsafe { self.0.write(value) };
    }
}

impl<T: Growing> Record<'_, T> {
    /// Writes what fits, zeros behind what this version knows, and the size as it was.
    pub(crate) fn write(&mut self, value: T) {
        let (start, n) = (self.0.cast::<u8>(), self.1.min(size_of::<T>()));
        // SAFETY: the struct has at least `n` bytes, which are of plain numbers and pointers.
        unsafe { ptr::copy_nonoverlapping((&raw const value).cast(), start.as_ptr(), n) };
        // SAFETY: the struct has `self.1` bytes, of which these are the last.
        unsafe { ptr::write_bytes(start.as_ptr().wrapping_add(n), 0, self.1 - n) };
        // SAFETY: the struct begins with its size.
        unsafe { self.0.cast().write(self.1) };
    }
}

impl<T: Copy> Buffer<'_, T> {
    /// Whether only the count is asked for.
    pub(crate) fn is_question(&self) -> bool {
        self.start.is_null() && self.capacity == 0
    }

    /// Tells the count; an error if as many do not fit.
    pub(crate) fn expect(&mut self, n: usize) -> Outcome<()> {
        self.expect_with_room(n, n)
    }

    fn expect_with_room(&mut self, n: usize, room: usize) -> Outcome<()> {
        self.n.write(n);
        if self.is_question() || room <= self.capacity {
            return Ok(());
        }
        let (what, capacity) = (self.what, self.capacity);
        let message = format!("the {what} needs {room} elements, and the buffer has {capacity}");
        Err(Failure::new(HB_BUFFER_TOO_SMALL, message))
    }

    /// Writes the elements.
    pub(crate) fn fill(&mut self, values: &[T]) -> Outcome<()> {
        self.expect(values.len())?;
        self.copy(values);
        Ok(())
    }

    fn copy(&self, values: &[T]) {
        if !self.is_question() {
            // SAFETY: the buffer is aligned and has room for them, as was checked, and no value in
            // Rust's memory lies in it.
            unsafe { ptr::copy_nonoverlapping(values.as_ptr(), self.start, values.len()) };
        }
    }
}

impl Buffer<'_, c_char> {
    /// Writes a text and the NUL at its end, which is not counted.
    pub(crate) fn fill_text(&mut self, text: &str) -> Outcome<()> {
        self.expect_with_room(text.len(), text.len() + 1)?;
        let bytes = text.bytes().chain([0]).map(|byte| c_char::from_ne_bytes([byte]));
        self.copy(&bytes.collect::<Vec<_>>());
        Ok(())
    }
}

fn null(what: &str) -> Failure {
    Failure::new(HB_NULL_ARGUMENT, format!("the {what} is NULL"))
}

/// An error for NULL and for addresses where no `T` can be.
fn aligned<T>(pointer: *const T, what: &str) -> Outcome<()> {
    if pointer.is_null() {
        return Err(null(what));
    }
    if !pointer.is_aligned() {
        return Err(Failure::argument(what, "its address is not aligned"));
    }
    Ok(())
}

/// The size that the caller wrote into the struct at `pointer`, which is not NULL.
fn size_of_struct<T: Growing>(pointer: *const T) -> Outcome<usize> {
    aligned(pointer, T::WHAT)?;
    // SAFETY: it points to a struct of some version, and all of them begin with their size.
    let size = unsafe { pointer.cast::<usize>().read() };
    check_size::<T>(size)?;
    Ok(size)
}

/// An error for a size that no version has: one in between would cut a field in two.
fn check_size<T: Growing>(size: usize) -> Outcome<()> {
    const { assert!(matches!(T::SIZES, [.., last] if *last == size_of::<T>()), "a size is missing") };
    let is_newer = size > size_of::<T>() && size <= MAX_STRUCT_BYTES;
    if is_newer || T::SIZES.contains(&size) {
        return Ok(());
    }
    let what = T::WHAT;
    Err(Failure::argument(what, format!("its size is {size}; set it to sizeof({what})")))
}

//! The C interface: its header, its installation and its tests.

pub(crate) mod header;
pub(crate) mod install;
pub(crate) mod speed;
pub(crate) mod test;
mod tools;

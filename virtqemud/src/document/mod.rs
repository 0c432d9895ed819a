//! QEMU's view of a domain document.

pub mod address;

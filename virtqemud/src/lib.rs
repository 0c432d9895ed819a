//! The QEMU driver daemon.

pub mod qmp;

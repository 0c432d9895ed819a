//! The QEMU driver daemon.

pub mod command;
pub mod document;
pub mod emulator;
pub mod guest;
pub mod process;
pub mod qmp;

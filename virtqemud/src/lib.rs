//! The QEMU driver daemon.

pub mod api;
pub mod command;
pub mod config;
pub mod definitions;
pub mod document;
pub mod driver;
pub mod emulator;
pub mod guest;
pub mod host;
pub mod process;
pub mod qmp;
pub mod settings;

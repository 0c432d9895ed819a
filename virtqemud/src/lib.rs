//! The QEMU driver daemon.

pub mod agent;
pub mod api;
pub mod command;
pub mod config;
pub mod console;
pub mod cpu;
pub mod definitions;
pub mod display;
pub mod document;
pub mod driver;
pub mod emulator;
pub mod guest;
pub mod host;
pub mod keycodes;
pub mod live;
pub mod net;
pub mod process;
pub mod qmp;
pub mod sealing;
pub mod serve;
pub mod settings;
pub mod stats;
pub mod volumes;

//! libvirt's public enum values, flags and parameter names, under the names its documentation uses.
//!
//! Flags are `u32`, other enum values `i32`; `ALL_..._FLAGS` are the bits a set of flags knows, to refuse the others.

mod tables;

pub use tables::*;

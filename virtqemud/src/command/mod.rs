//! The QEMU command line.

pub mod line;
pub mod props;

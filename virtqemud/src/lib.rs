//! The QEMU driver daemon.

//! Whole-host tests with real daemons, real QEMU and real clients.

//! Narrow traits over the kernel and tools.

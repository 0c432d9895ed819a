//! Narrow traits over the kernel and tools, each with a real implementation and one for tests.

pub mod files;
pub mod node;

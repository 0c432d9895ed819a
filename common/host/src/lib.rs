//! Narrow traits over the kernel and tools, each with a real implementation and one for tests.

pub mod cgroup;
pub mod content;
pub mod files;
pub mod link;
pub mod netfilter;
pub mod nft;
pub mod node;
pub mod process;
pub mod schema;
pub mod sriov;
pub mod tool;

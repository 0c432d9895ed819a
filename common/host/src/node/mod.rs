//! What the machine is: CPUs, cells, memory, caches, names. Everything is read through [`Files`] when asked; nothing is
//! kept, so hot-plugged CPUs and memory show at once.

pub mod cache;
pub mod cpu;
pub mod cpuid;
pub mod ksm;
pub mod list;
pub mod memory;
pub mod names;
pub mod numa;
pub mod stat;

use std::sync::Arc;

use crate::files::{Files, KernelFiles};

/// Access to one machine's facts.
#[derive(Clone)]
pub struct Node {
    files: Arc<dyn Files>,
    cpuid: Arc<dyn cpuid::Cpuid>,
}

impl Node {
    /// The machine this process runs on.
    pub fn real() -> Self {
        Self { files: Arc::new(KernelFiles), cpuid: Arc::new(cpuid::Instruction) }
    }

    /// A machine made of fixtures.
    pub fn fixture(files: Arc<dyn Files>, cpuid: Arc<dyn cpuid::Cpuid>) -> Self {
        Self { files, cpuid }
    }

    /// The kernel's text files.
    pub fn files(&self) -> &dyn Files {
        &*self.files
    }

    /// The CPU's identification leaves.
    pub fn cpuid(&self) -> &dyn cpuid::Cpuid {
        &*self.cpuid
    }
}

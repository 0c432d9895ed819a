//! Hyper-V enlightenments.

use virt_xml::rt_error::Result;
use virt_xml::{El, OnOff, Xml, names};

use super::features::Switch;

names! {
    /// Whether the enlightenments are listed or all of the host's.
    pub enum HypervMode { Custom = "custom", Passthrough = "passthrough", HostModel = "host-model" }
}

/// `<hyperv>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(open, last, check = Hyperv::check)]
pub struct Hyperv {
    #[xml(attr)]
    pub mode: HypervMode,
    #[xml(child)]
    pub relaxed: Option<Switch>,
    #[xml(child)]
    pub vapic: Option<Switch>,
    #[xml(child)]
    pub spinlocks: Option<Spinlocks>,
    #[xml(child)]
    pub vpindex: Option<Switch>,
    #[xml(child)]
    pub runtime: Option<Switch>,
    #[xml(child)]
    pub synic: Option<Switch>,
    #[xml(child)]
    pub stimer: Option<Stimer>,
    #[xml(child)]
    pub reset: Option<Switch>,
    #[xml(child)]
    pub vendor_id: Option<VendorId>,
    #[xml(child)]
    pub frequencies: Option<Switch>,
    #[xml(child)]
    pub reenlightenment: Option<Switch>,
    #[xml(child)]
    pub tlbflush: Option<TlbFlush>,
    #[xml(child)]
    pub ipi: Option<Switch>,
    #[xml(child)]
    pub evmcs: Option<Switch>,
    #[xml(child)]
    pub avic: Option<Switch>,
    #[xml(child)]
    pub emsr_bitmap: Option<Switch>,
    #[xml(child)]
    pub xmm_input: Option<Switch>,
}

impl Hyperv {
    /// Where all of the host's enlightenments are meant none is listed.
    fn check(&mut self, _: El<'_>) -> Result<()> {
        if self.mode == HypervMode::Passthrough {
            *self = Self { mode: self.mode, ..Self::default() };
        }
        Ok(())
    }
}

/// After how many tries a spinlock tells the host.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Spinlocks {
    #[xml(attr, with = OnOff, required)]
    pub state: bool,
    #[xml(attr)]
    pub retries: Option<u32>,
}

/// Synthetic timers.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Stimer {
    #[xml(attr, with = OnOff, required)]
    pub state: bool,
    #[xml(child)]
    pub direct: Option<Switch>,
}

/// The hypervisor's name.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VendorId {
    #[xml(attr, with = OnOff, required)]
    pub state: bool,
    #[xml(attr)]
    pub value: Option<String>,
}

/// Flushes of TLBs by hypercall.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct TlbFlush {
    #[xml(attr, with = OnOff, required)]
    pub state: bool,
    #[xml(child)]
    pub direct: Option<Switch>,
    #[xml(child)]
    pub extended: Option<Switch>,
}

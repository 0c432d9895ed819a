//! Hyper-V enlightenments.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Mode, OnOff, Xml, names};

use super::features::Switch;

/// Fewer tries of a spinlock are refused.
const LEAST_RETRIES: u32 = 4095;
/// Characters of a vendor's name that fit into three registers.
const MOST_VENDOR: usize = 12;

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

/// Of what is listed where all of the host's is meant nothing counts.
fn passes_through(e: El<'_>) -> bool {
    e.parent().and_then(|p| p.attr("mode")) == Some(HypervMode::Passthrough.as_str())
}

/// After how many tries a spinlock tells the host.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Spinlocks::check)]
pub struct Spinlocks {
    #[xml(attr, with = OnOff, required)]
    pub state: bool,
    #[xml(attr)]
    pub retries: Option<u32>,
}

impl Spinlocks {
    /// The number belongs to what is on.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        if passes_through(e) {
            return Ok(());
        }
        match (self.state, self.retries) {
            (true, None) => return Err(e.missing_attr("retries")),
            (true, Some(tries)) if tries < LEAST_RETRIES => {
                let text = format!("HyperV spinlock retry count must be at least {LEAST_RETRIES}");
                return Err(e.error(Code::XmlError, Domain::Domain, text));
            }
            (true, _) => {}
            (false, _) => self.retries = None,
        }
        Ok(())
    }
}

/// Synthetic timers.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Stimer {
    #[xml(attr, with = OnOff, required)]
    pub state: bool,
    #[xml(child, read_if = is_on, write_when = Stimer::is_on)]
    pub direct: Option<Switch>,
}

impl Stimer {
    fn is_on(&self) -> bool {
        self.state
    }
}

/// A part that is off is like one that is not there.
fn is_on(part: &Switch, _: Mode) -> bool {
    part.on()
}

/// The hypervisor's name.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = VendorId::check)]
pub struct VendorId {
    #[xml(attr, with = OnOff, required)]
    pub state: bool,
    #[xml(attr)]
    pub value: Option<String>,
}

impl VendorId {
    /// The name belongs to what is on.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        if passes_through(e) {
            return Ok(());
        }
        let refuse = |text: String| Err(e.error(Code::XmlError, Domain::Domain, text));
        match self.value.as_deref().filter(|_| self.state) {
            None if self.state => refuse("missing 'value' attribute for HyperV feature 'vendor_id'".into()),
            None => {
                self.value = None;
                Ok(())
            }
            Some(name) if name.len() > MOST_VENDOR => {
                refuse(format!("HyperV vendor_id value must not be more than {MOST_VENDOR} characters."))
            }
            Some(name) if name.contains(',') => refuse("HyperV vendor_id value is invalid".into()),
            Some(_) => Ok(()),
        }
    }
}

/// Flushes of TLBs by hypercall.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct TlbFlush {
    #[xml(attr, with = OnOff, required)]
    pub state: bool,
    #[xml(child, read_if = is_on, write_when = TlbFlush::is_on)]
    pub direct: Option<Switch>,
    #[xml(child, read_if = is_on, write_when = TlbFlush::is_on)]
    pub extended: Option<Switch>,
}

impl TlbFlush {
    fn is_on(&self) -> bool {
        self.state
    }
}

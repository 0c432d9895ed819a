//! CPUs of guests: which models there are, what each emulator can give, and what a guest's document means on this host.
//!
//! The models' features are a table of observed facts ([`table`]); what an emulator can give of them it tells itself
//! ([`probe`]). From both, [`expand`] makes the CPU of a start, and [`actual`] writes back what QEMU really gave.

pub mod actual;
pub mod baseline;
pub mod compare;
pub mod decode;
pub mod expand;
pub mod features;
pub mod probe;
pub mod table;
pub mod told;

use std::path::PathBuf;
use std::sync::Arc;

use virt_error::Result;
use virt_host::node::{Node, cpuid};
use virt_kvm_sys::Kvm;

use crate::emulator::Emulator;
use decode::{Described, Signature, Wanted};
use features::{Features, Word};
pub use probe::Accelerator;
use probe::{Offer, OfferStore};

/// What this host and its emulators offer to guests' CPUs. Everything blocks: files, and emulators that are probed.
pub struct Cpus {
    node: Node,
    offers: OfferStore,
}

/// The host's own processor.
pub struct HostCpu {
    /// Every feature it shows, those of model specific registers too.
    pub features: Features,
    /// libvirt's vendor name.
    pub vendor: Option<&'static str>,
    /// Family, model and stepping.
    pub signature: Signature,
}

impl Cpus {
    /// The CPUs of this machine; answers of emulators are kept in files under `cache`.
    pub fn new(cache: Option<PathBuf>) -> Self {
        Self { node: Node::real(), offers: OfferStore::new(cache) }
    }

    /// The processor instructions of the machine.
    pub fn cpuid(&self) -> &dyn cpuid::Cpuid {
        self.node.cpuid()
    }

    /// What an emulator offers.
    ///
    /// # Errors
    /// When the binary cannot be run.
    pub fn offer(&self, emulator: &Emulator, accelerator: Accelerator) -> Result<Arc<Offer>> {
        self.offers.get(emulator, accelerator)
    }

    /// The host's own processor.
    pub fn host(&self) -> HostCpu {
        let identity = cpuid::identity(self.node.cpuid());
        let mut features = features::of_cpu(self.node.cpuid());
        features.extend(hidden_features());
        HostCpu {
            features,
            vendor: probe::vendor_name(&identity.vendor),
            signature: Signature {
                family: identity.family,
                model: identity.model,
                stepping: identity.stepping,
            },
        }
    }

    /// The named model and differences that describe the best CPU an emulator offers: what `host-model` stands for.
    /// `None` where no model can.
    pub fn host_model(&self, offer: &Offer, accelerator: Accelerator) -> Option<HostModel> {
        let best = offer.best.as_ref()?;
        let kvm = accelerator == Accelerator::Kvm;
        let host = self.host();
        let vendor = if kvm { host.vendor } else { best.vendor };
        let signature = kvm.then_some(host.signature);
        let wanted = Wanted { features: &best.features, vendor, signature, named: &[] };
        let described = decode::for_guest(offer.candidates(), &wanted)?;
        Some(HostModel { described, vendor })
    }
}

/// What `host-model` stands for.
pub struct HostModel {
    /// Model and differences.
    pub described: Described,
    /// libvirt's vendor name.
    pub vendor: Option<&'static str>,
}

/// Feature bits of model specific registers that describe the processor itself, as the kernel's virtual machine device
/// tells them.
fn hidden_features() -> Features {
    /// IA32_CORE_CAPABILITIES and IA32_ARCH_CAPABILITIES; those of nested virtualization are not the host's to show.
    const OWN: [u32; 2] = [0xcf, 0x10a];
    let mut out = Features::new();
    let Ok(kvm) = Kvm::open() else { return out };
    for (word, bits) in features::WORDS {
        let Word::Msr(index) = word else { continue };
        if OWN.contains(index) {
            let value = kvm.feature_msr(*index).unwrap_or(0);
            out.extend(bits.iter().filter(|(bit, _)| value & (1 << bit) != 0).map(|(_, name)| *name));
        }
    }
    out
}

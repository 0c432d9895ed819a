//! What this host and its emulators can do, as documents and numbers.
//!
//! Everything here blocks (files, and a binary that is probed when its facts are not cached): handlers call it from a
//! thread that may wait. Nothing is read before a call needs it.

pub mod capabilities;
pub mod domcaps;
pub mod firmware;
pub mod sysinfo;
pub(crate) mod xml;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use virt_error::{Code, Domain, Error, Result};
use virt_host::node::{Node, cpu, list};
use virt_kvm_sys::Kvm;
use virt_model::domain::os::is_architecture;

pub use virt_host::node::ksm::Parameter as KsmParameter;

use crate::cpu::compare::{Comparison, Offered, compare, compare_offer};
use crate::cpu::told::{Form, read};
use crate::cpu::{Accelerator, baseline, table};
use crate::emulator::{Emulator, Emulators, Machine, target_of_arch};
use crate::process::dac::Owner;
use capabilities::SecurityModel;

/// The host as this driver sees it.
pub struct HostFacts {
    node: Node,
    emulators: Arc<Emulators>,
    root: PathBuf,
    owner: Option<Owner>,
    uuid: OnceLock<String>,
}

/// Which emulator, machine and domain type a question is about; unset parts are chosen.
#[derive(Debug, Default, Clone)]
pub struct Choice {
    /// Path of the emulator.
    pub emulator: Option<String>,
    /// libvirt's architecture name.
    pub arch: Option<String>,
    /// Machine name or alias.
    pub machine: Option<String>,
    /// Domain type.
    pub virt_type: Option<String>,
}

/// A [`Choice`] made.
pub struct Chosen {
    /// The emulator.
    pub emulator: Arc<Emulator>,
    /// libvirt's name of the architecture asked for: an emulator may serve several.
    pub arch: String,
    /// Its machine.
    pub machine: Machine,
    /// What runs the guest.
    pub accelerator: Accelerator,
}

impl HostFacts {
    /// Facts of this machine. Firmware descriptors are looked for under `root`; `owner` is whom guests run as, where
    /// the driver changes owners of files.
    pub fn new(
        node: Node,
        emulators: Arc<Emulators>,
        root: impl Into<PathBuf>,
        owner: Option<Owner>,
    ) -> Self {
        Self { node, emulators, root: root.into(), owner, uuid: OnceLock::new() }
    }

    /// The machine itself.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The host's architecture by libvirt's name.
    pub fn arch(&self) -> &'static str {
        cpu::arch()
    }

    /// Numbers of online CPUs, and how many numbers there are.
    pub fn online_cpus(&self) -> (Vec<u32>, u32) {
        let presence = self.node.presence();
        (presence.online, presence.count)
    }

    /// A bitmap of online CPUs (lowest bit first), how many are online, and how many the map tells of.
    pub fn cpu_map(&self) -> (Vec<u8>, u32, u32) {
        let presence = self.node.presence();
        let online = u32::try_from(presence.online.len()).unwrap_or(u32::MAX);
        (list::bitmap(&presence.online, presence.count), online, presence.count)
    }

    /// The emulators of the host.
    pub fn emulators(&self) -> &Emulators {
        &self.emulators
    }

    /// The host's UUID; random, for this daemon's life, when neither firmware nor system has one.
    pub fn uuid(&self) -> &str {
        self.uuid.get_or_init(|| self.node.uuid().unwrap_or_else(|| uuid::Uuid::new_v4().to_string()))
    }

    /// The default emulator's version: major * 1,000,000 + minor * 1,000 + micro.
    ///
    /// # Errors
    /// Code 1 when the host has no emulator for its own architecture.
    pub fn hypervisor_version(&self) -> Result<u64> {
        let emulator = self.default_emulator()?;
        let (major, minor, micro) = emulator.version;
        Ok(u64::from(major) * 1_000_000 + u64::from(minor) * 1_000 + u64::from(micro))
    }

    fn default_emulator(&self) -> Result<Arc<Emulator>> {
        let arch = cpu::arch();
        let binary = self.emulators.binary_for(arch).ok_or_else(|| {
            Error::internal(Domain::Qemu, format!("Cannot find suitable emulator for {arch}"))
        })?;
        self.emulators.get(&binary)
    }

    /// The answer of `virConnectGetMaxVcpus`.
    ///
    /// # Errors
    /// Code 8 for a type this driver does not have.
    pub fn max_vcpus(&self, kind: Option<&str>) -> Result<u32> {
        match kind.map(str::to_ascii_lowercase).as_deref() {
            // libvirt's fixed answer for the translator, whose real limit depends on the machine type.
            None | Some("qemu") => Ok(16),
            Some("kvm") => {
                let open =
                    Kvm::open().map_err(|e| Error::system(Domain::None, "Unable to open /dev/kvm", e))?;
                Ok(open.max_vcpus().unwrap_or(1))
            }
            Some(_) => {
                let kind = kind.unwrap_or_default();
                Err(Error::new(Code::InvalidArg, Domain::Qemu, format!("unknown type '{kind}'")))
            }
        }
    }

    /// The capabilities document.
    ///
    /// # Errors
    /// None today: an emulator that cannot be probed is left out and logged.
    pub fn capabilities(&self) -> Result<String> {
        let all = self.emulators.architectures().into_iter();
        let pairs: Vec<_> = all.filter_map(|a| Some((a, self.emulators.binary_for(a)?))).collect();
        let mut binaries: Vec<&PathBuf> = pairs.iter().map(|(_, b)| b).collect();
        binaries.sort_unstable();
        binaries.dedup();
        let probe = |binary: &PathBuf| match self.emulators.get(binary) {
            Ok(emulator) => Some((binary.clone(), emulator)),
            Err(error) => {
                tracing::warn!(%error, binary = %binary.display(), "emulator left out of the capabilities");
                None
            }
        };
        // Probing is mostly waiting for a young process: a few at a time keep cold answers short.
        let mut known = HashMap::new();
        for group in binaries.chunks(4) {
            let found: Vec<_> = std::thread::scope(|scope| {
                let jobs: Vec<_> = group.iter().map(|b| scope.spawn(move || probe(b))).collect();
                jobs.into_iter().map(|j| j.join().ok().flatten()).collect()
            });
            known.extend(found.into_iter().flatten());
        }
        let emulators: Vec<_> = pairs.iter().filter_map(|(a, b)| Some((*a, known.get(b)?.clone()))).collect();
        let security = self.security();
        Ok(capabilities::document(&self.host_part(&security), &emulators))
    }

    fn host_part<'a>(&'a self, security: &'a [SecurityModel]) -> capabilities::Host<'a> {
        let (node, uuid) = (&self.node, self.uuid().to_string());
        capabilities::Host { node, uuid, cpu: self.emulators.cpus().host(), security }
    }

    fn usual(&self, emulator: &Emulator) -> Accelerator {
        if emulator.kvm { Accelerator::Kvm } else { Accelerator::Tcg }
    }

    /// The security models in force, the primary first.
    pub fn security(&self) -> Vec<SecurityModel> {
        let model = |name: &str, label| SecurityModel { name: name.to_string(), doi: "0".to_string(), label };
        let owners = self.owner.map(|o| model("dac", Some(format!("+{}:+{}", o.uid, o.gid))));
        [model("none", None)].into_iter().chain(owners).collect()
    }

    /// Makes the choices of a question as libvirt makes them: the host's architecture, its emulator, hardware help where
    /// there is some, the default machine.
    ///
    /// # Errors
    /// Code 8 for names that do not fit, code 67 when there is no emulator, and what probing says.
    pub fn choose(&self, wanted: &Choice) -> Result<Chosen> {
        let invalid = |text: String| Error::new(Code::InvalidArg, Domain::Qemu, text);
        let kind = wanted
            .virt_type
            .as_deref()
            .map(|t| virt_type(t).ok_or_else(|| invalid(format!("unknown virttype: {t}"))));
        let kind = kind.transpose()?;
        let arch = wanted.arch.as_deref().unwrap_or_else(|| cpu::arch());
        if !is_architecture(arch) {
            return Err(invalid(format!("unknown architecture: {arch}")));
        }
        let binary = match &wanted.emulator {
            Some(path) => PathBuf::from(path),
            None => self.emulators.binary_for(arch).ok_or_else(|| {
                let text = format!("unable to find any emulator to serve '{arch}' architecture");
                Error::new(Code::ConfigUnsupported, Domain::Qemu, text)
            })?,
        };
        let emulator = self.emulators.get(&binary)?;
        let path = emulator.path.display();
        if emulator.target != target_of_arch(arch) {
            return Err(invalid(format!(
                "architecture from emulator '{}' doesn't match given architecture '{arch}'",
                emulator.arch
            )));
        }
        let accelerator = match kind {
            None => self.usual(&emulator),
            Some("qemu") => Accelerator::Tcg,
            Some("kvm") if emulator.kvm => Accelerator::Kvm,
            Some("kvm") => {
                return Err(invalid(format!("the accel 'kvm' is not supported by '{path}' on this host")));
            }
            Some(other) => {
                return Err(invalid(format!("Emulator '{path}' does not support virt type '{other}'")));
            }
        };
        let machine = match &wanted.machine {
            Some(name) => emulator.machine(name).cloned().ok_or_else(|| {
                invalid(format!("the machine '{name}' is not supported by emulator '{path}'"))
            })?,
            None => emulator
                .default_machine()
                .cloned()
                .ok_or_else(|| invalid(format!("Emulator '{path}' has no machine types")))?,
        };
        Ok(Chosen { arch: arch.to_string(), emulator, machine, accelerator })
    }

    /// The domain capabilities document.
    ///
    /// # Errors
    /// As [`Self::choose`].
    pub fn domain_capabilities(&self, wanted: &Choice, without_deprecated: bool) -> Result<String> {
        let chosen = self.choose(wanted)?;
        let cpus = self.emulators.cpus();
        let offer = cpus.offer(&chosen.emulator, chosen.accelerator)?;
        let kvm = (chosen.accelerator == Accelerator::Kvm).then(|| Kvm::open().ok()).flatten();
        Ok(domcaps::document(&domcaps::Subject {
            emulator: &chosen.emulator,
            arch: &chosen.arch,
            machine: &chosen.machine,
            accelerator: chosen.accelerator,
            max_vcpus: kvm.and_then(|k| k.max_vcpus()),
            offer: &offer,
            host_model: cpus.host_model(&offer, chosen.accelerator),
            firmware: &firmware::all(&self.root),
            loaders: &firmware::defaults(&self.root),
            cpuid: self.node.cpuid(),
            swtpm: ["swtpm", "swtpm_setup", "swtpm_ioctl"].into_iter().all(installed),
            without_deprecated,
        }))
    }

    /// Names of the CPU models that documents for an architecture may use; none where every name is accepted.
    ///
    /// # Errors
    /// Code 8 for an unknown architecture, code 3 for one whose CPUs have no driver.
    pub fn cpu_model_names(&self, arch: &str) -> Result<Vec<String>> {
        if !is_architecture(arch) {
            let text = format!("cannot find architecture {arch}");
            return Err(Error::new(Code::InvalidArg, Domain::Qemu, text));
        }
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        match arch {
            "x86_64" | "i686" => Ok(table::all().iter().map(|m| m.name.to_string()).collect()),
            "ppc64" | "ppc64le" => Ok(owned(baseline::POWER)),
            "s390x" | "s390" | "aarch64" | "armv6l" | "armv7b" | "armv7l" | "riscv64" | "loongarch64" => {
                Ok(Vec::new())
            }
            _ => {
                let text = format!("'{arch}' architecture is not supported by CPU driver");
                Err(Error::new(Code::NoSupport, Domain::Cpu, text))
            }
        }
    }

    /// Compares a CPU document with the host's CPU, or with what a hypervisor offers when `choice` is given.
    ///
    /// # Errors
    /// Code 27 for a document that is none; with `must_match` code 91 (CPU incompatible) in place of that answer.
    pub fn compare_cpu(&self, xml: &str, choice: Option<&Choice>, must_match: bool) -> Result<Comparison> {
        let chosen = choice.map(|c| self.choose(c)).transpose()?;
        let cpus = self.emulators.cpus();
        let (answer, why) = match chosen {
            None => {
                let told = read(xml, Form::Either)?;
                let host = cpus.host();
                let offered = Offered { features: &host.features, vendor: host.vendor, arch: cpu::arch() };
                compare(&told, &offered)
            }
            Some(chosen) => {
                let offer = cpus.offer(&chosen.emulator, chosen.accelerator)?;
                let Some(best) = &offer.best else {
                    let text = format!(
                        "QEMU '{}' does not support reporting CPU model for virttype '{}'",
                        chosen.emulator.path.display(),
                        domcaps::domain_type(chosen.accelerator)
                    );
                    return Err(Error::new(Code::OperationUnsupported, Domain::Qemu, text));
                };
                let told = read(xml, Form::Either)?;
                let vendor = match chosen.accelerator {
                    Accelerator::Kvm => cpus.host().vendor,
                    Accelerator::Tcg => best.vendor,
                };
                let offered = Offered { features: &best.features, vendor, arch: &chosen.emulator.arch };
                compare_offer(&told, &offer, &offered)
            }
        };
        match (answer, why) {
            (Comparison::Incompatible, why) if must_match => {
                Err(Error::new(Code::CpuIncompatible, Domain::Cpu, why.unwrap_or_default()))
            }
            (answer, _) => Ok(answer),
        }
    }

    /// The CPU that all the given ones can be.
    ///
    /// # Errors
    /// Code 27 for a document that is none, code 9 when they do not fit together, code 84 for an emulator without models.
    pub fn baseline_cpu(
        &self,
        xml: &[String],
        choice: Option<&Choice>,
        ask: baseline::Ask,
    ) -> Result<String> {
        let read_all = |form| xml.iter().map(|x| read(x, form)).collect::<Result<Vec<_>>>();
        let Some(choice) = choice else {
            let told = read_all(Form::Host)?;
            if let Some(arch) = told.first().and_then(|t| t.arch.as_deref()).filter(|a| !is_x86(a)) {
                return baseline::foreign(&told, arch);
            }
            return baseline::baseline(&told, None, ask);
        };
        let chosen = self.choose(choice)?;
        let arch = &chosen.emulator.arch;
        let offer = self.emulators.cpus().offer(&chosen.emulator, chosen.accelerator)?;
        if offer.models.is_empty() {
            let text = format!(
                "QEMU '{}' does not support any CPU models for virttype '{}'",
                chosen.emulator.path.display(),
                domcaps::domain_type(chosen.accelerator)
            );
            return Err(Error::new(Code::OperationUnsupported, Domain::Qemu, text));
        }
        if !is_x86(arch) {
            let text = format!("computing baseline hypervisor CPU is not supported for arch {arch}");
            return Err(Error::new(Code::OperationUnsupported, Domain::Qemu, text));
        }
        baseline::baseline(&read_all(Form::Either)?, Some(&offer), ask)
    }
}

fn is_x86(arch: &str) -> bool {
    matches!(arch, "x86_64" | "i686")
}

/// libvirt's own name of a domain type it knows.
fn virt_type(name: &str) -> Option<&'static str> {
    let all = [
        "qemu",
        "kvm",
        "xen",
        "lxc",
        "uml",
        "openvz",
        "test",
        "vmware",
        "hyperv",
        "vbox",
        "phyp",
        "parallels",
        "bhyve",
        "vz",
        "hvf",
        "none",
        "kqemu",
    ];
    all.into_iter().find(|t| *t == name)
}

fn installed(program: &str) -> bool {
    ["/usr/bin", "/usr/local/bin", "/usr/sbin"].iter().any(|d| Path::new(d).join(program).exists())
}

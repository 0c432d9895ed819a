//! Trusted platform modules.

use virt_xml::{Xml, YesNo, names};

use super::info::DeviceInfo;
use crate::{Uuid, UuidText};

names! {
    /// The TPM's device.
    pub enum TpmModel { Tis = "tpm-tis", Crb = "tpm-crb", Spapr = "tpm-spapr", SpaprProxy = "spapr-tpm-proxy" }
    /// The TPM's version.
    pub enum TpmVersion { V1_2 = "1.2", V2_0 = "2.0" }
    /// Where an emulated TPM keeps its state.
    pub enum TpmSourceKind { File = "file", Dir = "dir" }
    /// What may be taken out of a profile.
    pub enum RemoveDisabled { None = "none", Check = "check", FipsHost = "fips-host" }
}

/// `<tpm>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Tpm {
    #[xml(attr)]
    pub model: Option<TpmModel>,
    #[xml(
        child,
        need(XmlError, "missing TPM device backend"),
        once(XmlError, "only one TPM backend is supported")
    )]
    pub backend: Option<TpmBackend>,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

/// The TPM itself.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "type")]
pub enum TpmBackend {
    Passthrough(TpmPassthrough),
    Emulator(TpmEmulator),
    External(TpmExternal),
}

/// The host's TPM.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct TpmPassthrough {
    #[xml(attr = "device@path")]
    pub path: Option<String>,
}

/// A TPM in software.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct TpmEmulator {
    #[xml(attr)]
    pub version: Option<TpmVersion>,
    #[xml(attr, with = YesNo)]
    pub persistent_state: Option<bool>,
    #[xml(attr)]
    pub debug: Option<u32>,
    #[xml(attr = "encryption@secret", with = UuidText, loose, say(InternalError, "Unable to parse secret uuid '{}'"))]
    pub encryption: Option<Uuid>,
    #[xml(child)]
    pub active_pcr_banks: Option<PcrBanks>,
    #[xml(child)]
    pub source: Option<TpmSource>,
    #[xml(child)]
    pub profile: Option<TpmProfile>,
}

/// Which banks of registers are in use.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct PcrBanks {
    #[xml(flag)]
    pub sha1: bool,
    #[xml(flag)]
    pub sha256: bool,
    #[xml(flag)]
    pub sha384: bool,
    #[xml(flag)]
    pub sha512: bool,
}

/// Where an emulated TPM keeps its state.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct TpmSource {
    #[xml(attr = "type", required)]
    pub kind: TpmSourceKind,
    #[xml(attr)]
    pub path: Option<String>,
}

/// What an emulated TPM offers.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct TpmProfile {
    #[xml(attr)]
    pub source: Option<String>,
    #[xml(attr = "removeDisabled")]
    pub remove_disabled: Option<RemoveDisabled>,
    #[xml(attr)]
    pub name: Option<String>,
}

/// A TPM another process serves.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct TpmExternal {
    #[xml(child)]
    pub source: TpmSocket,
}

/// The socket of an external TPM.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct TpmSocket {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(attr)]
    pub mode: Option<String>,
    #[xml(attr)]
    pub path: Option<String>,
}

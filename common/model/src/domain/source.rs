//! Where an image lies: files, block devices, folders, network protocols, pool volumes, NVMe, vhost-user, vhost-vdpa.

use virt_xml::{NonZero, Xml, YesNo, names};

use super::address::PciAddress;
use super::chardev::Reconnect;
use super::seclabel::DeviceSeclabel;
use crate::{Uuid, UuidText};

/// An image's place, told apart by the `type` of the element around `<source>`.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "type", default = "file")]
pub enum DiskSource {
    #[xml("file", child = "source")]
    File(FileImage),
    #[xml("block", child = "source")]
    Block(BlockImage),
    #[xml("dir", child = "source")]
    Dir(DirImage),
    #[xml("network", child = "source")]
    Network(Box<NetworkImage>),
    #[xml("volume", child = "source")]
    Volume(VolumeImage),
    #[xml("nvme", child = "source")]
    Nvme(NvmeImage),
    #[xml("vhostuser", child = "source")]
    VhostUser(VhostUserImage),
    #[xml("vhostvdpa", child = "source")]
    VhostVdpa(VhostVdpaImage),
}

impl Default for DiskSource {
    fn default() -> Self {
        Self::File(FileImage::default())
    }
}

names! {
    /// What to do when an image is missing.
    pub enum StartupPolicy { Default = "default", Mandatory = "mandatory", Requisite = "requisite", Optional = "optional" }
    /// How a network image is reached.
    pub enum NetworkProtocol {
        None = "none", Nbd = "nbd", Rbd = "rbd", Sheepdog = "sheepdog", Gluster = "gluster", Iscsi = "iscsi", Http = "http",
        Https = "https", Ftp = "ftp", Ftps = "ftps", Tftp = "tftp", Ssh = "ssh", Vxhs = "vxhs", Nfs = "nfs"
    }
    /// How a host is reached.
    pub enum HostTransport { Tcp = "tcp", Unix = "unix", Rdma = "rdma" }
    /// How a pool's iSCSI volume is used.
    pub enum VolumeMode { Default = "default", Host = "host", Direct = "direct" }
    /// Image formats.
    pub enum ImageFormat {
        None = "none", Raw = "raw", Dir = "dir", Bochs = "bochs", Cloop = "cloop", Dmg = "dmg", Iso = "iso", Vpc = "vpc",
        Vdi = "vdi", Fat = "fat", Vhd = "vhd", Ploop = "ploop", Cow = "cow", Qcow = "qcow", Qcow2 = "qcow2", Qed = "qed",
        Vmdk = "vmdk"
    }
    /// Which secret unlocks an encrypted image.
    pub enum SecretKind { None = "none", Volume = "volume", Passphrase = "passphrase", Ceph = "ceph", Iscsi = "iscsi", Tls = "tls", Vtpm = "vtpm" }
    /// How an image is encrypted.
    pub enum EncryptionFormat { Default = "default", Qcow = "qcow", Luks = "luks", Luks2 = "luks2", LuksAny = "luks-any" }
    /// Who decrypts.
    pub enum EncryptionEngine { Qemu = "qemu", Librbd = "librbd" }
}

/// What any kind of image may say about itself, after its place.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ImageCommon {
    #[xml(attr = "startupPolicy")]
    pub startup_policy: Option<StartupPolicy>,
    /// Number of the image in a running guest's chain, from 1.
    #[xml(attr, live)]
    pub index: Option<u32>,
    #[xml(child)]
    pub slices: Slices,
    #[xml(child = "seclabel")]
    pub seclabels: Vec<DeviceSeclabel>,
    #[xml(child)]
    pub auth: Option<Auth>,
    #[xml(child)]
    pub reservations: Option<Reservations>,
    #[xml(child)]
    pub encryption: Option<Encryption>,
    #[xml(child = "dataStore")]
    pub data_store: Option<Box<DataStore>>,
}

/// A raw file or block device beside the image that holds the data.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct DataStore {
    #[xml(attr = "format@type", say(XmlError, "unknown disk backing store format '{}'"))]
    pub format: Option<ImageFormat>,
    #[xml(flatten)]
    pub source: DiskSource,
}

/// Parts of an image that are used.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Slices {
    #[xml(child = "slice")]
    pub slices: Vec<Slice>,
}

/// A part of an image, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Slice {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(attr)]
    pub offset: u64,
    #[xml(attr, with = NonZero, required)]
    pub size: u64,
}

/// A regular file.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FileImage {
    #[xml(attr)]
    pub file: Option<String>,
    /// Name of a descriptor group the client passed.
    #[xml(attr)]
    pub fdgroup: Option<String>,
    #[xml(flatten)]
    pub common: ImageCommon,
}

/// A block device.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BlockImage {
    #[xml(attr)]
    pub dev: Option<String>,
    #[xml(flatten)]
    pub common: ImageCommon,
}

/// A folder shown as a FAT disk.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct DirImage {
    #[xml(attr)]
    pub dir: Option<String>,
    #[xml(flatten)]
    pub common: ImageCommon,
}

/// A volume of a storage pool.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VolumeImage {
    #[xml(attr)]
    pub pool: Option<String>,
    #[xml(attr)]
    pub volume: Option<String>,
    #[xml(attr)]
    pub mode: Option<VolumeMode>,
    #[xml(flatten)]
    pub common: ImageCommon,
}

/// A host NVMe controller's namespace.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NvmeImage {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(attr, with = YesNo)]
    pub managed: Option<bool>,
    #[xml(attr)]
    pub namespace: Option<u64>,
    #[xml(flatten)]
    pub common: ImageCommon,
    #[xml(child)]
    pub address: PciAddress,
}

/// A disk another process serves over a unix socket.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VhostUserImage {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(attr)]
    pub path: Option<String>,
    #[xml(flatten)]
    pub common: ImageCommon,
    #[xml(child)]
    pub reconnect: Option<Reconnect>,
}

/// A vhost-vdpa device.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VhostVdpaImage {
    #[xml(attr)]
    pub dev: Option<String>,
    #[xml(flatten)]
    pub common: ImageCommon,
}

/// An image behind a network protocol.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NetworkImage {
    #[xml(attr, required)]
    pub protocol: NetworkProtocol,
    #[xml(attr)]
    pub name: Option<String>,
    #[xml(attr)]
    pub query: Option<String>,
    #[xml(attr, with = YesNo)]
    pub tls: Option<bool>,
    #[xml(attr = "tlsHostname")]
    pub tls_hostname: Option<String>,
    #[xml(attr = "tlsFromConfig", status)]
    pub tls_from_config: Option<u32>,
    #[xml(child = "host")]
    pub hosts: Vec<NetworkHost>,
    #[xml(attr = "snapshot@name")]
    pub snapshot: Option<String>,
    #[xml(attr = "config@file")]
    pub config: Option<String>,
    #[xml(child)]
    pub reconnect: ImageReconnect,
    #[xml(attr = "ssl@verify", with = YesNo)]
    pub ssl_verify: Option<bool>,
    #[xml(child)]
    pub cookies: Cookies,
    #[xml(attr = "readahead@size")]
    pub readahead: Option<u64>,
    #[xml(attr = "timeout@seconds")]
    pub timeout: Option<u64>,
    #[xml(attr = "knownHosts@path")]
    pub known_hosts: Option<String>,
    #[xml(child)]
    pub identity: Identity,
    #[xml(attr = "initiator/iqn@name")]
    pub initiator: Option<String>,
    #[xml(flatten)]
    pub common: ImageCommon,
}

/// After how many seconds an NBD client connects anew.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ImageReconnect {
    #[xml(attr)]
    pub delay: Option<u32>,
}

/// One server of a network image.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NetworkHost {
    #[xml(attr, say(ConfigUnsupported, "unknown protocol transport type '{}'"))]
    pub transport: Option<HostTransport>,
    #[xml(attr)]
    pub name: Option<String>,
    #[xml(attr)]
    pub port: Option<u32>,
    #[xml(attr)]
    pub socket: Option<String>,
}

/// HTTP cookies sent with each request.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Cookies {
    #[xml(child = "cookie")]
    pub cookies: Vec<Cookie>,
}

/// One HTTP cookie; its value is a secret.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Cookie {
    #[xml(attr)]
    pub name: Option<String>,
    #[xml(text, secure)]
    pub value: Option<String>,
}

/// Who we are towards an NFS or SSH server.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Identity {
    #[xml(attr)]
    pub user: Option<String>,
    #[xml(attr)]
    pub group: Option<String>,
    #[xml(attr)]
    pub username: Option<String>,
    #[xml(attr)]
    pub keyfile: Option<String>,
    #[xml(attr)]
    pub agentsock: Option<String>,
}

/// A user name and the secret that proves it.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Auth {
    #[xml(attr)]
    pub username: Option<String>,
    #[xml(child)]
    pub secret: SecretRef,
}

/// A secret, by UUID or by what it is used for.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct SecretRef {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(attr, with = UuidText, say(XmlError, "invalid secret uuid '{}'"))]
    pub uuid: Option<Uuid>,
    #[xml(attr)]
    pub usage: Option<String>,
}

/// How an image is encrypted and what unlocks it.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Encryption {
    #[xml(attr, required, say(XmlError, "unknown volume encryption format type {}"))]
    pub format: EncryptionFormat,
    #[xml(attr)]
    pub engine: Option<EncryptionEngine>,
    #[xml(child = "secret")]
    pub secrets: Vec<SecretRef>,
    #[xml(child)]
    pub cipher: Option<Cipher>,
    #[xml(child)]
    pub ivgen: Option<IvGen>,
}

/// The cipher a volume is created with.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Cipher {
    #[xml(attr, required)]
    pub name: String,
    #[xml(attr)]
    pub size: u32,
    #[xml(attr)]
    pub mode: Option<String>,
    #[xml(attr)]
    pub hash: Option<String>,
}

/// How a volume's initialisation vectors are made.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct IvGen {
    #[xml(attr, required)]
    pub name: String,
    #[xml(attr)]
    pub hash: Option<String>,
}

/// SCSI persistent reservations, through a helper's socket.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Reservations {
    #[xml(attr, with = YesNo, required)]
    pub managed: bool,
    #[xml(child)]
    pub source: ReservationsSource,
}

/// The reservations helper's socket.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ReservationsSource {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(attr)]
    pub path: Option<String>,
    #[xml(attr)]
    pub mode: Option<String>,
    #[xml(child)]
    pub reconnect: Option<Reconnect>,
}

impl DiskSource {
    /// What does not depend on the kind of place.
    pub fn common(&self) -> &ImageCommon {
        match self {
            Self::File(s) => &s.common,
            Self::Block(s) => &s.common,
            Self::Dir(s) => &s.common,
            Self::Network(s) => &s.common,
            Self::Volume(s) => &s.common,
            Self::Nvme(s) => &s.common,
            Self::VhostUser(s) => &s.common,
            Self::VhostVdpa(s) => &s.common,
        }
    }

    /// The same, to change.
    pub fn common_mut(&mut self) -> &mut ImageCommon {
        match self {
            Self::File(s) => &mut s.common,
            Self::Block(s) => &mut s.common,
            Self::Dir(s) => &mut s.common,
            Self::Network(s) => &mut s.common,
            Self::Volume(s) => &mut s.common,
            Self::Nvme(s) => &mut s.common,
            Self::VhostUser(s) => &mut s.common,
            Self::VhostVdpa(s) => &mut s.common,
        }
    }

    /// The local path, folder or device.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::File(s) => s.file.as_deref(),
            Self::Block(s) => s.dev.as_deref(),
            Self::Dir(s) => s.dir.as_deref(),
            Self::VhostUser(s) => s.path.as_deref(),
            Self::VhostVdpa(s) => s.dev.as_deref(),
            Self::Network(_) | Self::Volume(_) | Self::Nvme(_) => None,
        }
    }

    /// Nothing is inserted (a drive without a medium).
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Network(s) => s.protocol == NetworkProtocol::None,
            Self::Volume(s) => s.volume.is_none(),
            Self::Nvme(_) => false,
            _ => self.path().is_none(),
        }
    }
}

/// The cache of a qcow2 image's metadata.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MetadataCache {
    #[xml(child)]
    pub max_size: Option<ByteSize>,
}

/// A size in bytes, written with `unit='bytes'`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ByteSize {
    #[xml(attr)]
    pub unit: Option<String>,
    #[xml(text)]
    pub bytes: u64,
}

/// An image format where `aio` is an old name of `raw`.
pub struct DriverFormat;

impl virt_xml::Codec<ImageFormat> for DriverFormat {
    fn parse(text: &str) -> Result<ImageFormat, virt_xml::Bad> {
        let name = if text == "aio" { "raw" } else { text };
        ImageFormat::from_name(name).ok_or(virt_xml::Bad::Unknown)
    }
    fn put(value: &ImageFormat, out: &mut String) {
        out.push_str(value.as_str());
    }
}

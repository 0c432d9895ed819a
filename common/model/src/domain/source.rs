//! Where an image lies: files, block devices, folders, network protocols, pool volumes, NVMe, vhost-user, vhost-vdpa.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, NonZero, Xml, YesNo, names, not_zero};

use super::address::PciAddress;
use super::chardev::Reconnect;
use super::seclabel::DeviceSeclabel;
use super::volume::{NamedVolume, VolumePlace};
use crate::{Uuid, UuidText};

/// An image's place, told apart by the `type` of the element around `<source>`.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "type", default = "file", shown = DiskSource::as_volume)]
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
    #[xml(attr, live_read)]
    pub index: Option<u32>,
    #[xml(child)]
    pub slices: Slices,
    #[xml(child = "seclabel", keep_if = DeviceSeclabel::shown)]
    pub seclabels: Vec<DeviceSeclabel>,
    #[xml(child)]
    pub auth: Option<Auth>,
    #[xml(child)]
    pub reservations: Option<Reservations>,
    #[xml(child)]
    pub encryption: Option<Encryption>,
    #[xml(child = "dataStore")]
    pub data_store: Option<Box<DataStore>>,
    /// What the driver must know again after a restart (status file only).
    #[xml(child = "privateData", status)]
    pub private: Option<Box<ImagePrivate>>,
    /// The pool's volume that the document names, of which this is the place.
    #[xml(skip)]
    pub volume: Option<Box<NamedVolume>>,
}

/// What the driver keeps of an image in use.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ImagePrivate {
    #[xml(child)]
    pub nodenames: NodeNames,
    #[xml(child)]
    pub reservations: ReservationsPrivate,
    #[xml(leaf = "relPath")]
    pub rel_path: Option<String>,
    #[xml(child)]
    pub objects: SecretObjects,
}

/// QEMU's names of an image's block nodes.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NodeNames {
    #[xml(child = "nodename")]
    pub names: Vec<NodeName>,
}

/// A block node: `storage`, `format`, `slice-storage` ...
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NodeName {
    #[xml(attr = "type", required)]
    pub kind: String,
    #[xml(attr, required)]
    pub name: String,
}

/// The object that serves persistent reservations.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ReservationsPrivate {
    #[xml(attr)]
    pub mgralias: Option<String>,
}

/// Secret and TLS objects of an image.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct SecretObjects {
    #[xml(child = "secret")]
    pub secrets: Vec<SecretObject>,
    #[xml(attr = "TLSx509@alias")]
    pub tls: Option<String>,
}

/// One secret object.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct SecretObject {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(attr)]
    pub alias: Option<String>,
}

/// A raw file or block device beside the image that holds the data.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = DataStore::check)]
pub struct DataStore {
    #[xml(attr = "format@type", say(XmlError, "unknown disk backing store format '{}'"))]
    pub format: Option<ImageFormat>,
    #[xml(flatten)]
    pub source: DiskSource,
}

impl DataStore {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let refuse = |text: &str| Err(e.error(Code::XmlError, Domain::Domain, text));
        if e.attr("type").is_none() {
            return Err(e.missing_attr("type"));
        }
        if self.format.is_none() {
            return refuse("missing data file store format");
        }
        if e.child("source").is_none() {
            return refuse("missing disk data file store source");
        }
        Ok(())
    }
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
    /// Its place while a guest uses it (status file only).
    #[xml(flatten, when = "actualType", status)]
    pub actual: Option<VolumePlace>,
    #[xml(flatten)]
    pub common: ImageCommon,
}

/// A host NVMe controller's namespace.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NvmeImage {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    /// The driver takes the controller from the host, unless told otherwise.
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
#[xml(check = VhostUserImage::check)]
pub struct VhostUserImage {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(attr)]
    pub path: Option<String>,
    #[xml(flatten)]
    pub common: ImageCommon,
    #[xml(child, keep_if = Reconnect::says)]
    pub reconnect: Option<Reconnect>,
}

impl VhostUserImage {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        match self.kind.as_deref() {
            Some("unix") => Ok(()),
            None => Err(e.error(
                Code::XmlError,
                Domain::Domain,
                "missing 'type' attribute for vhostuser disk source",
            )),
            Some(_) => Err(e.error(
                Code::XmlError,
                Domain::Domain,
                "invalid 'type' attribute for vhostuser disk source",
            )),
        }
    }
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
#[xml(check = NetworkImage::check)]
pub struct NetworkImage {
    #[xml(attr, required, skip_default)]
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
    #[xml(attr = "readahead@size", loose, read_if = not_zero)]
    pub readahead: Option<u64>,
    #[xml(attr = "timeout@seconds", loose, read_if = not_zero)]
    pub timeout: Option<u64>,
    #[xml(attr = "knownHosts@path", required)]
    pub known_hosts: Option<String>,
    #[xml(child)]
    pub identity: Identity,
    #[xml(attr = "initiator/iqn@name")]
    pub initiator: Option<String>,
    #[xml(flatten)]
    pub common: ImageCommon,
}

impl NetworkImage {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let refuse = |text: String| Err(e.error(Code::XmlError, Domain::Domain, text));
        match (self.protocol, self.name.as_deref()) {
            (NetworkProtocol::Nbd, _) => Ok(()),
            (NetworkProtocol::Ssh, Some(_)) => self.identity.ssh(e),
            (_, None) => refuse("missing name for disk source".to_string()),
            (NetworkProtocol::Rbd | NetworkProtocol::Gluster, Some(name))
                if !name.trim_start_matches('/').contains('/') =>
            {
                refuse(format!("can't split path '{name}' into pool name and image name"))
            }
            _ => Ok(()),
        }
    }
}

/// After how many seconds an NBD client connects anew.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ImageReconnect {
    #[xml(attr, read_if = not_zero)]
    pub delay: Option<u32>,
}

/// One server of a network image.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = NetworkHost::check)]
pub struct NetworkHost {
    #[xml(attr, even_empty)]
    pub name: Option<String>,
    #[xml(attr, read_if = not_zero, say(InvalidArg, "failed to parse port number '{}'", None))]
    pub port: Option<u32>,
    #[xml(attr)]
    pub transport: Option<HostTransport>,
    #[xml(attr)]
    pub socket: Option<String>,
}

impl NetworkHost {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let refuse = |text: String| Err(e.error(Code::XmlError, Domain::Domain, text));
        let transport = self.transport.unwrap_or_default();
        match (transport, &self.socket) {
            (HostTransport::Unix, None) => refuse("missing socket for unix transport".to_string()),
            (HostTransport::Unix, Some(_)) => Ok(()),
            (other, Some(_)) => refuse(format!("transport '{other}' does not support socket attribute")),
            (_, None) if self.name.is_none() => refuse("missing name for host".to_string()),
            _ => Ok(()),
        }
    }
}

impl NetworkProtocol {
    /// The TCP port of a server that names none.
    pub fn default_port(self) -> Option<u32> {
        match self {
            Self::Nbd => Some(10809),
            Self::Sheepdog => Some(7000),
            Self::Gluster => Some(24007),
            Self::Iscsi => Some(3260),
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::Ftp => Some(21),
            Self::Ftps => Some(990),
            Self::Tftp => Some(69),
            Self::Ssh => Some(22),
            Self::Vxhs => Some(9999),
            Self::None | Self::Rbd | Self::Nfs => None,
        }
    }
}

/// HTTP cookies sent with each request.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Cookies::check)]
pub struct Cookies {
    #[xml(child = "cookie")]
    pub cookies: Vec<Cookie>,
}

impl Cookies {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        for (i, cookie) in self.cookies.iter().enumerate() {
            let name = cookie.name.as_deref().unwrap_or_default();
            let wrong = match &cookie.value {
                _ if name.is_empty() => Some("missing cookie name".to_string()),
                None => Some(format!("missing value for cookie '{name}'")),
                Some(_) => None,
            };
            if let Some(text) = wrong {
                return Err(e.error(Code::XmlError, Domain::Domain, text));
            }
            if self.cookies[..i].iter().any(|c| c.name == cookie.name) {
                let text = format!("duplicate cookie '{}'", cookie.name.as_deref().unwrap_or_default());
                return Err(e.error(Code::XmlError, Domain::Domain, text));
            }
        }
        Ok(())
    }
}

/// One HTTP cookie; its value is a secret.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Cookie {
    #[xml(attr, need(XmlError, "missing cookie name"))]
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

impl Identity {
    /// SSH knows names and keys, no numbers.
    fn ssh(&mut self, e: El<'_>) -> Result<()> {
        let Some(own) = e.child("identity") else { return Ok(()) };
        (self.user, self.group) = (None, None);
        if self.username.is_none() {
            return Err(own.missing_attr("username"));
        }
        if self.keyfile.is_none() && self.agentsock.is_none() {
            let text = "element 'identity' requires either 'keyfile' or 'agentsock' attribute";
            return Err(own.error(Code::XmlError, Domain::Domain, text));
        }
        Ok(())
    }
}

/// A user name and the secret that proves it.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Auth::check)]
pub struct Auth {
    #[xml(attr, need(XmlError, "missing username for auth", Storage))]
    pub username: Option<String>,
    #[xml(child, need(XmlError, "Missing <secret> element in auth", Storage))]
    pub secret: SecretRef,
}

impl Auth {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        if self.username.as_deref().is_some_and(str::is_empty) {
            return Err(e.error(Code::XmlError, Domain::Storage, "missing username for auth"));
        }
        // A volume's pool knows the kind itself.
        let of_pool = e.parent().is_some_and(|p| p.attr("type") == Some("volume"));
        match self.secret.kind.as_deref() {
            None if of_pool => {}
            Some(kind) if SecretKind::from_name(kind).is_some() => {}
            kind => {
                let text = format!("unknown secret type '{}'", kind.unwrap_or("<null>"));
                return Err(e.error(Code::ConfigUnsupported, Domain::Storage, text));
            }
        }
        if self.secret.uuid.is_none() && self.secret.usage.is_none() {
            return Err(e.error(Code::XmlError, Domain::None, "missing secret uuid or usage attribute"));
        }
        Ok(())
    }
}

/// A secret, by UUID or by what it is used for.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct SecretRef {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(attr, with = UuidText, say(XmlError, "invalid secret uuid '{}'", None))]
    pub uuid: Option<Uuid>,
    #[xml(attr, even_empty)]
    pub usage: Option<String>,
}

/// How an image is encrypted and what unlocks it.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = Encryption::before, check = Encryption::check, open)]
pub struct Encryption {
    #[xml(
        attr,
        need(XmlError, "unknown volume encryption format", Storage),
        say(ConfigUnsupported, "unknown volume encryption format type {}", Storage)
    )]
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

impl Encryption {
    fn before(e: El<'_>) -> Result<()> {
        if e.attr("format").and_then(EncryptionFormat::from_name).is_none() {
            return Ok(());
        }
        for at in e.children_named("secret") {
            let kind = at.attr("type").map(str::to_string);
            let secret = SecretRef { kind, ..SecretRef::default() };
            if !matches!(secret.kind.as_deref(), Some("passphrase")) {
                let (code, text) = match secret.kind.as_deref() {
                    None => (Code::XmlError, "unknown volume encryption secret type".to_string()),
                    Some(other) => {
                        (Code::ConfigUnsupported, format!("unknown volume encryption secret type {other}"))
                    }
                };
                return Err(at.error(code, Domain::Storage, text));
            }
            let secret = SecretRef::read(at)?;
            if secret.uuid.is_none() && secret.usage.is_none() {
                return Err(at.error(Code::XmlError, Domain::None, "missing secret uuid or usage attribute"));
            }
        }
        Ok(())
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        if let (None, Some(ivgen)) = (&self.cipher, e.child("ivgen")) {
            let text = "ivgen element found, but cipher is missing";
            return Err(ivgen.error(Code::XmlError, Domain::Storage, text));
        }
        Ok(())
    }
}

/// The cipher a volume is created with.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Cipher {
    #[xml(attr, need(XmlError, "cipher info missing 'name' attribute", Storage))]
    pub name: String,
    #[xml(attr, required)]
    pub size: u32,
    #[xml(attr)]
    pub mode: Option<String>,
    #[xml(attr)]
    pub hash: Option<String>,
}

/// How a volume's initialisation vectors are made.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct IvGen {
    #[xml(attr, need(XmlError, "missing ivgen info name string", Storage))]
    pub name: String,
    #[xml(attr)]
    pub hash: Option<String>,
}

/// SCSI persistent reservations, through a helper's socket.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Reservations::check)]
pub struct Reservations {
    #[xml(attr, with = YesNo, required)]
    pub managed: bool,
    #[xml(child)]
    pub source: ReservationsSource,
}

impl Reservations {
    /// Who is not the driver's own helper says where it listens.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let s = &self.source;
        let text = match (&s.kind, &s.path, s.mode.as_deref()) {
            _ if self.managed => return Ok(()),
            (None, ..) => "missing connection type for <reservations/>".to_string(),
            (_, None, _) => "missing path for <reservations/>".to_string(),
            (_, _, None) => "missing connection mode for <reservations/>".to_string(),
            (_, _, Some("client")) => return Ok(()),
            (_, _, Some(mode)) => format!("unsupported connection mode for <reservations/>: {mode}"),
        };
        Err(e.error(Code::XmlError, Domain::Domain, text))
    }
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
    #[xml(child, keep_if = Reconnect::says)]
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
    fn parse(text: &str) -> std::result::Result<ImageFormat, virt_xml::Bad> {
        let name = if text == "aio" { "raw" } else { text };
        ImageFormat::from_name(name).ok_or(virt_xml::Bad::Unknown)
    }
    fn put(value: &ImageFormat, out: &mut String) {
        out.push_str(value.as_str());
    }
}

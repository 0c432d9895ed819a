//! Block graph nodes: `-blockdev` for the storage and format layers of one image and everything under it.

use crate::document::types::{
    BackingStore, DetectZeroes, Discard, DiskCache, DiskIo, DiskSource, Encryption, EncryptionEngine,
    HostTransport, NetworkHost, NetworkImage, NetworkProtocol, Reservations,
};
use serde_json::{Value, json};

use super::Builder;
use super::props::Props;

/// How the topmost image of a disk is used; the images under it inherit caching and I/O only.
#[derive(Clone, Copy, Default)]
pub(super) struct Access {
    pub readonly: bool,
    pub cache: DiskCache,
    pub io: DiskIo,
    pub discard: Discard,
    pub detect_zeroes: DetectZeroes,
    /// Freed clusters of a qcow2 image keep their place.
    pub discard_no_unref: Option<bool>,
    /// Bytes of qcow2 metadata kept in memory.
    pub metadata_cache: Option<u64>,
    /// The image is shown as a floppy (FAT images look different then).
    pub floppy: bool,
}

/// The properties of the nodes of one image, bottom first, and the name of the topmost node.
pub(super) struct Nodes {
    pub props: Vec<Props>,
    pub top: String,
}

impl Access {
    /// What an image under the top one is opened with.
    fn below(self) -> Self {
        Self {
            readonly: true,
            detect_zeroes: DetectZeroes::Default,
            discard_no_unref: None,
            metadata_cache: None,
            ..self
        }
    }
}

/// `direct`, `no-flush` and whether the guest sees a write cache, for a mode that decides them.
pub(super) fn cache_flags(cache: DiskCache) -> Option<(bool, bool, bool)> {
    match cache {
        DiskCache::Default => None,
        DiskCache::None => Some((true, false, true)),
        DiskCache::Writethrough => Some((false, false, false)),
        DiskCache::Writeback => Some((false, false, true)),
        DiskCache::Directsync => Some((true, false, false)),
        DiskCache::Unsafe => Some((false, true, true)),
    }
}

fn cache_object(access: Access) -> Option<Value> {
    cache_flags(access.cache).map(|(direct, no_flush, _)| json!({"direct": direct, "no-flush": no_flush}))
}

/// `libvirt-3-storage` and the like.
pub fn node_name(prefix: &str, layer: &str) -> String {
    format!("{prefix}-{layer}")
}

/// Whether an image needs a format node above its storage node.
pub fn has_format_node(source: &DiskSource, format: &str) -> bool {
    let common = source.common();
    let luks = common.encryption.as_ref().is_some_and(|e| e.engine != Some(EncryptionEngine::Librbd));
    format != "raw" || luks
}

impl Builder<'_> {
    /// All nodes of an image with what lies under it. `prefix` is `libvirt-N` of the image's own number.
    pub(super) fn image_nodes(
        &mut self,
        source: &DiskSource,
        format: Option<&str>,
        backing: Option<&BackingStore>,
        prefix: &str,
        access: Access,
    ) -> Nodes {
        let mut props = Vec::new();
        let format = format.unwrap_or("raw");
        let under = backing.and_then(|b| {
            let below = b.source.as_ref()?;
            let prefix = format!("libvirt-{}", b.index.unwrap_or(0));
            let kind = b.format.as_ref().and_then(|f| f.kind.map(|k| k.as_str()));
            let nodes = self.image_nodes(below, kind, b.backing.as_deref(), &prefix, access.below());
            props.extend(nodes.props);
            Some(nodes.top)
        });
        let ended = backing.is_some_and(|b| b.source.is_none());
        let data = source.common().data_store.as_ref().map(|store| {
            let prefix = format!("libvirt-{}", store.source.common().index.unwrap_or(0));
            let below = Access {
                detect_zeroes: DetectZeroes::Default,
                metadata_cache: None,
                discard_no_unref: None,
                ..access
            };
            let nodes =
                self.image_nodes(&store.source, store.format.map(|f| f.as_str()), None, &prefix, below);
            props.extend(nodes.props);
            nodes.top
        });
        let mut bottom = node_name(prefix, "storage");
        let layered = has_format_node(source, format);
        let slices = source.common().slices.slices.as_slice();
        props.push(self.storage_node(source, &bottom, access, layered || !slices.is_empty()));
        if let [slice] = slices {
            // A slice is cut by a raw node of its own.
            let cut = node_name(prefix, "slice-sto");
            let node = Props::driver("raw")
                .with("file", bottom)
                .with("offset", slice.offset)
                .with("size", slice.size)
                .with("node-name", cut.as_str());
            props.push(node_usage(node, access, layered));
            bottom = cut;
        }
        if !layered {
            return Nodes { props, top: bottom };
        }
        let node = node_name(prefix, "format");
        let mut layer = Props::new().with("node-name", node.as_str()).with("read-only", access.readonly);
        layer = usage(layer, access);
        if let Some(cache) = cache_object(access) {
            layer.put("cache", cache);
        }
        let encryption = source.common().encryption.as_ref();
        layer = format_props(layer, format, encryption, &node, access);
        if let Some(data) = data {
            layer.put("data-file", data);
        }
        layer.put("file", bottom);
        if can_back(format) {
            match under {
                Some(top) => layer.put("backing", top),
                None if ended => layer.put("backing", Value::Null),
                None => {}
            }
        }
        props.push(layer);
        Nodes { props, top: node }
    }

    fn storage_node(&mut self, source: &DiskSource, node: &str, access: Access, layered: bool) -> Props {
        let props = match source {
            DiskSource::File(s) => {
                Props::driver("file").opt("filename", s.file.as_deref()).opt("aio", aio(access.io))
            }
            DiskSource::Block(s) => {
                let manager = s.common.reservations.as_ref().map(|r| self.reservations(r, node));
                Props::driver("host_device")
                    .opt("filename", s.dev.as_deref())
                    .opt("aio", aio(access.io))
                    .opt("pr-manager", manager)
            }
            DiskSource::Volume(s) => Props::driver("file").opt("filename", s.volume.as_deref()),
            DiskSource::Dir(s) => Props::driver("vvfat")
                .opt("dir", s.dir.as_deref())
                .with("floppy", access.floppy)
                .with("rw", !access.readonly),
            DiskSource::Network(s) => self.network_node(s, node),
            DiskSource::Nvme(s) => {
                Props::driver("nvme").with("device", s.address.to_string()).opt("namespace", s.namespace)
            }
            DiskSource::VhostVdpa(s) => Props::driver("virtio-blk-vhost-vdpa").opt("path", s.dev.as_deref()),
            DiskSource::VhostUser(_) => Props::new(),
        };
        node_usage(props.with("node-name", node), access, layered)
    }

    pub(super) fn network_node(&mut self, s: &NetworkImage, node: &str) -> Props {
        let first = s.hosts.first();
        let name = s.name.clone().unwrap_or_default();
        let user = s.common.auth.as_ref().and_then(|a| a.username.clone());
        match s.protocol {
            NetworkProtocol::Nbd => {
                let tls = (s.tls == Some(true)).then(|| self.disk_tls(node));
                Props::driver("nbd")
                    .opt("server", first.map(socket_address))
                    .opt("export", s.name.as_deref())
                    .opt("tls-creds", tls)
                    .opt("tls-hostname", s.tls_hostname.as_deref())
                    .opt("reconnect-delay", s.reconnect.delay)
            }
            NetworkProtocol::Rbd => {
                let (pool, image) = name.split_once('/').unwrap_or((&name, ""));
                let servers: Vec<Value> = s.hosts.iter().map(inet).collect();
                let secret = user.is_some().then(|| format!("{node}-auth-secret0"));
                Props::driver("rbd")
                    .with("pool", pool)
                    .with("image", image)
                    .when(!servers.is_empty(), "server", servers)
                    .opt("snapshot", s.snapshot.as_deref())
                    .opt("conf", s.config.as_deref())
                    .opt("user", user.clone())
                    .when(user.is_some(), "auth-client-required", json!(["cephx", "none"]))
                    .opt("key-secret", secret)
            }
            NetworkProtocol::Gluster => {
                let (volume, path) = name.split_once('/').unwrap_or((&name, ""));
                let servers: Vec<Value> = s.hosts.iter().map(|h| socket_address_default(h, 24007)).collect();
                Props::driver("gluster")
                    .with("volume", volume)
                    .with("path", path)
                    .with("server", servers)
                    .with("debug", 4)
            }
            NetworkProtocol::Iscsi => {
                let (target, lun) = name.split_once('/').unwrap_or((&name, "0"));
                let portal = first.map(|h| format!("{}:{}", bracketed(h), h.port.unwrap_or(3260)));
                let secret = user.is_some().then(|| format!("{node}-auth-secret0"));
                Props::driver("iscsi")
                    .opt("portal", portal)
                    .with("target", target)
                    .with("lun", lun.parse::<u32>().unwrap_or(0))
                    .with("transport", "tcp")
                    .opt("initiator-name", s.initiator.as_deref())
                    .opt("user", user)
                    .opt("password-secret", secret)
            }
            NetworkProtocol::Http
            | NetworkProtocol::Https
            | NetworkProtocol::Ftp
            | NetworkProtocol::Ftps
            | NetworkProtocol::Tftp => {
                let cookies = (!s.cookies.cookies.is_empty()).then(|| self.cookie_secret(s, node));
                let secret = user.is_some().then(|| format!("{node}-auth-secret0"));
                Props::driver(s.protocol.as_str())
                    .with("url", url(s))
                    .opt("username", user)
                    .opt("password-secret", secret)
                    .opt("sslverify", s.ssl_verify)
                    .opt("cookie-secret", cookies)
                    .opt("readahead", s.readahead)
                    .opt("timeout", s.timeout)
            }
            NetworkProtocol::Ssh => {
                let user = user.or_else(|| s.identity.username.clone());
                Props::driver("ssh")
                    .with("path", name.trim_start_matches('/'))
                    .opt("server", first.map(|h| json!({"host": h.name.clone().unwrap_or_default(), "port": h.port.unwrap_or(22).to_string()})))
                    .opt("user", user)
            }
            NetworkProtocol::Nfs => {
                let (owner, group) = (s.identity.user.as_deref(), s.identity.group.as_deref());
                Props::driver("nfs")
                    .opt(
                        "server",
                        first.map(|h| json!({"host": h.name.clone().unwrap_or_default(), "type": "inet"})),
                    )
                    .with("path", name.as_str())
                    .opt("user", owner.and_then(crate::settings::user_id))
                    .opt("group", group.and_then(crate::settings::group_id))
            }
            NetworkProtocol::Vxhs => {
                Props::driver("vxhs").with("vdisk-id", name).opt("server", first.map(inet))
            }
            NetworkProtocol::Sheepdog | NetworkProtocol::None => Props::driver(s.protocol.as_str()),
        }
    }

    /// Who makes persistent reservations for an image: the driver's helper, one for all disks, or one by its socket.
    fn reservations(&mut self, r: &Reservations, node: &str) -> String {
        let own = "pr-helper0";
        let (id, path) = if r.managed {
            (own.to_string(), format!("{}/{own}.sock", self.launch.private_dir))
        } else {
            (format!("pr-helper-{node}"), r.source.path.clone().unwrap_or_default())
        };
        let object = Props::object("pr-manager-helper", &id).with("path", path).to_string();
        if !self.line.args.contains(&object) {
            self.line.arg("-object", object);
        }
        id
    }

    fn disk_tls(&mut self, node: &str) -> String {
        let id = format!("obj{node}_tls0");
        let dir = self.launch.settings.disk_tls.dir.clone();
        self.line.object(
            Props::object("tls-creds-x509", &id)
                .with("dir", dir)
                .with("endpoint", "client")
                .with("verify-peer", true),
        );
        id
    }

    fn cookie_secret(&mut self, s: &NetworkImage, node: &str) -> String {
        let id = format!("{node}-httpcookie-secret0");
        let text: Vec<String> = s
            .cookies
            .cookies
            .iter()
            .map(|c| {
                format!("{}={}", c.name.clone().unwrap_or_default(), c.value.clone().unwrap_or_default())
            })
            .collect();
        self.secret_object(&id, text.join("; ").as_bytes());
        id
    }
}

/// How a node is used: one that others stand on is as open as they need it.
fn node_usage(props: Props, access: Access, layered: bool) -> Props {
    let mut props = if layered {
        props.with("auto-read-only", true).with("discard", "unmap")
    } else {
        usage(props.with("read-only", access.readonly), access)
    };
    if let Some(cache) = cache_object(access) {
        props.put("cache", cache);
    }
    props
}

/// Discards and zeroes, on the node the guest's device sits on.
fn usage(props: Props, access: Access) -> Props {
    let discard = (access.discard != Discard::Default).then(|| access.discard.as_str());
    let zeroes = match access.detect_zeroes {
        DetectZeroes::Default => None,
        // Unmapping zeroes makes sense only where discards are passed on.
        DetectZeroes::Unmap if access.discard != Discard::Unmap => Some("on"),
        other => Some(other.as_str()),
    };
    props.opt("discard", discard).opt("detect-zeroes", zeroes)
}

fn aio(io: DiskIo) -> Option<&'static str> {
    (io != DiskIo::Default).then(|| io.as_str())
}

/// Formats that can have an image under them.
fn can_back(format: &str) -> bool {
    matches!(format, "qcow2" | "qcow" | "qed" | "vmdk" | "vhdx")
}

fn format_props(
    props: Props,
    format: &str,
    encryption: Option<&Encryption>,
    node: &str,
    access: Access,
) -> Props {
    let secrets: Vec<String> = encryption
        .map(|e| (0..e.secrets.len().max(1)).map(|i| format!("{node}-encryption-secret{i}")).collect())
        .unwrap_or_default();
    let secret = secrets.first().cloned();
    match format {
        "raw" if secret.is_some() => props.with("driver", "luks").opt("key-secret", secret),
        "luks" => props.with("driver", "luks").opt("key-secret", secret),
        "qcow2" => {
            let kind = match encryption.map(|e| e.format.as_str()) {
                Some("qcow") => "aes",
                _ => "luks",
            };
            props
                .with("driver", "qcow2")
                .opt("encrypt", secret.map(|s| json!({"format": kind, "key-secret": s})))
                .opt("cache-size", access.metadata_cache)
                .opt("discard-no-unref", access.discard_no_unref)
        }
        "fat" | "raw" => props.with("driver", "raw"),
        "ploop" => props.with("driver", "parallels"),
        other => props.with("driver", other),
    }
}

fn bracketed(h: &NetworkHost) -> String {
    let name = h.name.clone().unwrap_or_default();
    if name.contains(':') { format!("[{name}]") } else { name }
}

fn inet(h: &NetworkHost) -> Value {
    json!({"host": h.name.clone().unwrap_or_default(), "port": h.port.unwrap_or(0).to_string()})
}

fn socket_address(h: &NetworkHost) -> Value {
    socket_address_default(h, 10809)
}

fn socket_address_default(h: &NetworkHost, port: u32) -> Value {
    if h.transport == Some(HostTransport::Unix) {
        return json!({"type": "unix", "path": h.socket.clone().unwrap_or_default()});
    }
    let port = h.port.unwrap_or(port).to_string();
    json!({"type": "inet", "host": h.name.clone().unwrap_or_default(), "port": port})
}

fn url(s: &NetworkImage) -> String {
    let default = match s.protocol {
        NetworkProtocol::Http => 80,
        NetworkProtocol::Https => 443,
        NetworkProtocol::Ftp => 21,
        NetworkProtocol::Ftps => 990,
        _ => 69,
    };
    let (host, port) =
        s.hosts.first().map_or((String::new(), default), |h| (bracketed(h), h.port.unwrap_or(default)));
    let path = s.name.clone().unwrap_or_default();
    let query = s.query.as_ref().map(|q| format!("?{q}")).unwrap_or_default();
    format!("{}://{host}:{port}/{}{query}", s.protocol.as_str(), path.trim_start_matches('/'))
}

//! What one start of a guest needs to know beside the document: paths, descriptors, settings.

use std::collections::HashMap;

use virt_error::Result;

use crate::display::Displays;
use crate::document::types::{DeviceInfo, ScsiHostdev, SecretRef, Smbios};

/// Where TLS credentials lie and whether peers must show theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Folder with the certificates.
    pub dir: String,
    /// Whether clients must present a certificate.
    pub verify: bool,
}

/// Parts of the driver's configuration that reach the command line.
#[derive(Clone, Debug)]
pub struct Settings {
    /// TLS of character devices.
    pub chardev_tls: TlsSettings,
    /// TLS of network disks.
    pub disk_tls: TlsSettings,
    /// VNC and SPICE.
    pub displays: Displays,
    /// Whether guest memory is part of QEMU's core dumps.
    pub dump_guest_core: bool,
    /// QEMU's system call filter; `None` is the default, on.
    pub sandbox: Option<bool>,
}

impl Default for Settings {
    /// qemu.conf without any line in it.
    fn default() -> Self {
        let tls = TlsSettings { dir: "/etc/pki/qemu".into(), verify: true };
        Self {
            chardev_tls: tls.clone(),
            disk_tls: tls,
            displays: Displays::default(),
            dump_guest_core: false,
            sandbox: None,
        }
    }
}

/// The monitor's socket.
#[derive(Clone, Debug)]
pub enum Monitor {
    /// QEMU makes it at this path.
    Socket(String),
    /// It was made before and is inherited.
    Fd(i32),
}

/// Descriptors of one network card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetFds {
    /// The tap, one for each queue: a number, or the name that a running QEMU knows it by.
    pub tap: Vec<String>,
    /// vhost-net, one for each queue or none.
    pub vhost: Vec<String>,
}

impl NetFds {
    /// Stands for a descriptor in a line that is only shown.
    pub(super) fn placeholder(index: usize) -> Self {
        Self { tap: vec![(25 + index).to_string()], vhost: Vec::new() }
    }
}

/// An encrypted secret.
pub struct Sealed {
    /// Base64.
    pub data: String,
    /// Base64 of the initialisation vector; missing when the data is not encrypted.
    pub iv: Option<String>,
}

/// What one start needs beside the document.
pub struct LaunchContext<'a> {
    /// The line is only shown: network cards stand for taps, and no descriptor or secret is real.
    pub native: bool,
    /// The guest's private folder: `/var/lib/libvirt/qemu/domain-1-vm1`.
    pub private_dir: String,
    /// The driver's folder: `/var/lib/libvirt/qemu`.
    pub lib_dir: String,
    /// Files that back guest memory: `/var/lib/libvirt/qemu/ram/1-vm1`.
    pub memory_dir: String,
    /// Channel sockets: `/run/libvirt/qemu/channel/1-vm1`.
    pub channel_dir: String,
    /// The monitor.
    pub monitor: Monitor,
    /// Listening sockets of ports that were made before and are inherited, by path; QEMU makes the others itself.
    pub socket_fds: HashMap<String, i32>,
    /// Descriptors of network cards, by alias.
    pub net_fds: HashMap<String, NetFds>,
    /// vhost-vsock, opened.
    pub vsock_fd: Option<i32>,
    /// vhost-scsi, opened.
    pub vhost_scsi_fd: Option<i32>,
    /// The TPM emulator's socket, when one runs.
    pub tpm_socket: Option<String>,
    /// Mount points of hugetlbfs by page size in KiB, with the guest's folder in each.
    pub hugepages: HashMap<u64, String>,
    /// The host's default huge page in KiB.
    pub default_hugepage_kib: u64,
    /// Seconds since 1970.
    pub now: i64,
    /// Seconds local time is ahead of UTC.
    pub local_offset: i64,
    /// The host's own SMBIOS strings.
    pub host_smbios: Option<Smbios>,
    /// The driver's configuration.
    pub settings: Settings,
    /// Looks up a secret's value.
    pub secrets: &'a dyn Fn(&SecretRef) -> Result<Vec<u8>>,
    /// Encrypts with the guest's master key.
    pub seal: &'a dyn Fn(&[u8]) -> Sealed,
    /// `/dev/sgN` of a host SCSI device.
    pub find_scsi: &'a dyn Fn(&ScsiHostdev) -> Option<String>,
}

impl LaunchContext<'_> {
    /// The environment every QEMU gets.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let home = &self.private_dir;
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        vec![
            ("LC_ALL".into(), "C".into()),
            ("PATH".into(), path),
            ("HOME".into(), home.clone()),
            ("XDG_DATA_HOME".into(), format!("{home}/.local/share")),
            ("XDG_CACHE_HOME".into(), format!("{home}/.cache")),
            ("XDG_CONFIG_HOME".into(), format!("{home}/.config")),
        ]
    }

    /// The guest's folder on hugetlbfs for a page size in KiB.
    pub(super) fn hugepage_dir(&self, kib: u64) -> Option<String> {
        self.hugepages.get(&kib).cloned()
    }

    /// passt's socket for a network card.
    pub(super) fn passt_socket(&self, info: &DeviceInfo) -> String {
        let alias = info.alias.clone().unwrap_or_default();
        let name = self.private_dir.rsplit("domain-").next().unwrap_or_default();
        format!("/run/libvirt/qemu/passt/{name}-{alias}.socket")
    }

    /// The socket of a vhost-user GPU process.
    pub(super) fn vhost_user_gpu_socket(&self, info: &DeviceInfo) -> String {
        format!("{}/{}-vhost-user-gpu.sock", self.private_dir, info.alias.clone().unwrap_or_default())
    }

    /// The generic device of a host SCSI device.
    pub(super) fn scsi_generic(&self, device: &ScsiHostdev) -> Option<String> {
        (self.find_scsi)(device)
    }
}

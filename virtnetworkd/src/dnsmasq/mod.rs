//! The DHCP and DNS server of a network: dnsmasq, with libvirt's own file layout.

pub mod conf;
pub mod leases;
pub mod process;

use std::path::{Path, PathBuf};

/// Where a network's server keeps its files. A name with a slash never gets here.
#[derive(Debug, Clone)]
pub struct Files {
    dir: PathBuf,
    run: PathBuf,
    name: String,
}

impl Files {
    /// Files in `dir` (/var/lib/libvirt/dnsmasq), the pid file in `run` (/run/libvirt/network).
    pub fn new(dir: &Path, run: &Path, name: &str) -> Self {
        Self { dir: dir.into(), run: run.into(), name: name.into() }
    }

    fn of(&self, ending: &str) -> PathBuf {
        self.dir.join(format!("{}.{ending}", self.name))
    }

    /// The configuration.
    pub fn conf(&self) -> PathBuf {
        self.of("conf")
    }

    /// Addresses kept for guests.
    pub fn hosts(&self) -> PathBuf {
        self.of("hostsfile")
    }

    /// Names of addresses.
    pub fn addn_hosts(&self) -> PathBuf {
        self.of("addnhosts")
    }

    /// The server's process number.
    pub fn pid(&self) -> PathBuf {
        self.run.join(format!("{}.pid", self.name))
    }

    /// The leases of a bridge's network, written by the lease helper.
    pub fn leases(&self, bridge: &str) -> PathBuf {
        self.dir.join(format!("{bridge}.status"))
    }

    /// What the lease helper locks while it changes the leases.
    pub fn lease_lock(&self, bridge: &str) -> PathBuf {
        self.dir.join(format!("{bridge}.status.lock"))
    }

    /// The folder of all these.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

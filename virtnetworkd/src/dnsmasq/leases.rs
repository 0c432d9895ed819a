//! The leases of a network, as the lease helper keeps them: a JSON array in BRIDGE.status, in libvirt's own form.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use virt_error::{Domain, Error, Result};
use virt_model::network::Network;

use super::Files;

/// The largest file believed.
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// One lease.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lease {
    /// The client's identifier; the server's DUID lives in `server-duid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The server's DUID (DHCPv6).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_duid: Option<String>,
    /// Identity association (DHCPv6).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iaid: Option<String>,
    /// Address.
    pub ip_address: String,
    /// Hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// What the client calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Seconds since 1970; 0 for ever.
    #[serde(default)]
    pub expiry_time: i64,
}

/// Reads a lease file; one that is missing or empty holds none.
///
/// # Errors
/// What reading gives, and `InvalidData` for a damaged file.
pub fn read(path: &Path) -> io::Result<Vec<Lease>> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
        Ok(meta) if meta.len() > MAX_FILE => return Err(io::ErrorKind::FileTooLarge.into()),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&text).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// The leases of a network with a bridge of its own; other networks have none. Blocking.
///
/// # Errors
/// Code 38 when the file cannot be read, code 27 for a bridge that no interface can be.
pub fn of(files: &Files, net: &Network) -> Result<Vec<Lease>> {
    let Some(bridge) = net.bridge.name.as_deref().filter(|_| net.owns_bridge()) else {
        return Ok(Vec::new());
    };
    virt_host::link::check_name(bridge)?;
    let path = files.leases(bridge);
    read(&path).map_err(|e| Error::system(Domain::Network, format!("unable to read '{}'", path.display()), e))
}

/// What dnsmasq reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A lease was given or renewed.
    Put,
    /// A lease has ended.
    Remove,
}

/// Applies a report. Leases that have ended are dropped on the way.
pub fn apply(leases: &mut Vec<Lease>, change: Change, lease: Lease, now: i64) {
    leases.retain(|l| l.ip_address != lease.ip_address && (l.expiry_time == 0 || l.expiry_time >= now));
    if change == Change::Put {
        leases.push(lease);
    }
}

/// dnsmasq's own lease database, which it asks the helper for when it starts.
pub fn database(leases: &[Lease]) -> String {
    let is_v6 = |l: &&Lease| l.ip_address.contains(':');
    // What a guest said of itself must not begin another field or line.
    let one_word = |v: &&String| !v.is_empty() && !v.contains(|c: char| c.is_whitespace() || c.is_control());
    let or_star = |v: &Option<String>| v.as_ref().filter(one_word).map_or_else(|| "*".into(), Clone::clone);
    let leases: Vec<Lease> = leases.iter().filter(|l| one_word(&&l.ip_address)).cloned().collect();
    let leases = &leases[..];
    let mut out = String::new();
    for l in leases.iter().filter(|l| !is_v6(l)) {
        let (mac, host, id) = (or_star(&l.mac_address), or_star(&l.hostname), or_star(&l.client_id));
        out.push_str(&format!("{} {mac} {} {host} {id}\n", l.expiry_time, l.ip_address));
    }
    let mut v6 = leases.iter().filter(is_v6).peekable();
    if let Some(duid) =
        leases.iter().find_map(|l| l.server_duid.as_ref().filter(one_word)).filter(|_| v6.peek().is_some())
    {
        out.push_str(&format!("duid {duid}\n"));
    }
    for l in v6 {
        let (iaid, host, id) = (or_star(&l.iaid), or_star(&l.hostname), or_star(&l.client_id));
        out.push_str(&format!("{} {iaid} {} {host} {id}\n", l.expiry_time, l.ip_address));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_replaces_and_the_past_is_dropped() {
        let lease =
            |ip: &str, expiry| Lease { ip_address: ip.into(), expiry_time: expiry, ..Lease::default() };
        let mut all = vec![lease("10.0.0.2", 50), lease("10.0.0.3", 500), lease("10.0.0.4", 0)];
        apply(&mut all, Change::Put, lease("10.0.0.3", 900), 100);
        assert_eq!(all, [lease("10.0.0.4", 0), lease("10.0.0.3", 900)]);
        apply(&mut all, Change::Remove, lease("10.0.0.4", 0), 100);
        assert_eq!(all, [lease("10.0.0.3", 900)]);
        assert_eq!(database(&all), "900 * 10.0.0.3 * *\n");
    }
}

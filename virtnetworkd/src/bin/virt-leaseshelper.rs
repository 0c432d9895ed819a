//! dnsmasq's lease helper: keeps a network's leases in BRIDGE.status and hands them back when dnsmasq starts.
//!
//! `virt-leaseshelper add|old|del MAC-or-client-id IP [HOSTNAME]`, or `init`. Everything else comes in the environment.
//! The bytes are a guest's own choice: they only ever become JSON strings.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use virt_host::link::check_name;
use virt_object::store::write_whole;
use virtnetworkd::dnsmasq::leases::{self, Change, Lease};
use virtnetworkd::dnsmasq::process::{BRIDGE_VAR, LEASES_VAR};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("virt-leaseshelper: {error}");
            ExitCode::FAILURE
        }
    }
}

fn var(name: &str) -> Option<String> {
    env::var_os(name).map(|v| v.to_string_lossy().into_owned()).filter(|v| !v.is_empty())
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned());
    let action = args.next().ok_or("an action is needed: add, old, del or init")?;
    let bridge = var(BRIDGE_VAR).or_else(|| var("DNSMASQ_INTERFACE")).ok_or("no bridge is named")?;
    check_name(&bridge)?;
    let dir = PathBuf::from(var(LEASES_VAR).unwrap_or_else(|| "/var/lib/libvirt/dnsmasq".into()));
    let path = dir.join(format!("{bridge}.status"));
    // dnsmasq runs one helper at a time, but a helper of the reference's may still be there after a switch.
    let lock = std::fs::File::create(dir.join(format!("{bridge}.status.lock")))?;
    let _held = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
    let mut all = leases::read(&path).unwrap_or_else(|error| {
        eprintln!("virt-leaseshelper: starting anew, {} cannot be used: {error}", path.display());
        Vec::new()
    });
    let change = match action.as_str() {
        "init" => {
            print!("{}", leases::database(&all));
            return Ok(());
        }
        "add" | "old" => Change::Put,
        "del" => Change::Remove,
        // Actions of newer versions are not for us.
        _ => return Ok(()),
    };
    let (client, ip) = (args.next().ok_or("no client is named")?, args.next().ok_or("no address is named")?);
    let v6 = ip.contains(':');
    let lease = Lease {
        client_id: if v6 { Some(client.clone()) } else { var("DNSMASQ_CLIENT_ID") },
        server_duid: var("DNSMASQ_SERVER_DUID").filter(|_| v6),
        iaid: var("DNSMASQ_IAID").filter(|_| v6),
        ip_address: ip,
        mac_address: if v6 { var("DNSMASQ_MAC") } else { Some(client) },
        hostname: args.next().or_else(|| var("DNSMASQ_SUPPLIED_HOSTNAME")),
        expiry_time: var("DNSMASQ_LEASE_EXPIRES").and_then(|t| t.parse().ok()).unwrap_or(0),
    };
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(0));
    leases::apply(&mut all, change, lease, now);
    write_whole(&path, &[serde_json::to_string_pretty(&all)?.as_bytes(), b"\n"], false)?;
    Ok(())
}

//! What the guest's system tells of itself, as libvirt's named parameters.

use std::sync::Arc;

use serde_json::Value as Json;
use virt_consts::*;
use virt_error::Result;
use virt_model::domain::Domain;

use super::filesystems::{self, Filesystem, disk_at};
use super::{call, interfaces, is_unsupported, malformed};
use crate::config::params::{Param, Value};
use crate::guest::{Guest, not_running};

/// Rows under construction.
#[derive(Default)]
struct Rows(Vec<Param>);

impl Rows {
    fn put(&mut self, name: impl Into<String>, value: Value) {
        self.0.push(Param { name: name.into(), value });
    }

    fn text(&mut self, name: impl Into<String>, value: Option<&str>) {
        if let Some(value) = value {
            self.put(name, Value::String(value.into()));
        }
    }

    fn count(&mut self, name: impl Into<String>, count: usize) {
        self.put(name, Value::Uint(u32::try_from(count).unwrap_or(u32::MAX)));
    }
}

/// The groups asked for; 0 stands for all that the agent knows.
///
/// # Errors
/// As [`call`], for a group that was asked for by name.
pub async fn get(guest: &Arc<Guest>, types: u32) -> Result<Vec<Param>> {
    let live = guest.published().value.live.clone().ok_or_else(not_running)?;
    let mut rows = Rows::default();
    let all = types == 0;
    for group in (0..u32::BITS).map(|bit| 1 << bit).filter(|g| ALL_DOMAIN_GUEST_INFO_TYPES & g != 0) {
        if !all && types & group == 0 {
            continue;
        }
        match one(guest, &live, group, &mut rows).await {
            Err(error) if all && is_unsupported(&error) => {}
            done => done?,
        }
    }
    Ok(rows.0)
}

async fn one(guest: &Arc<Guest>, live: &Domain, group: u32, rows: &mut Rows) -> Result<()> {
    let ask = |command: &'static str| call(guest, command, Json::Null);
    match group {
        VIR_DOMAIN_GUEST_INFO_USERS => users(&ask("guest-get-users").await?, rows),
        VIR_DOMAIN_GUEST_INFO_OS => {
            system(&ask("guest-get-osinfo").await?, rows);
            Ok(())
        }
        VIR_DOMAIN_GUEST_INFO_TIMEZONE => timezone(&ask("guest-get-timezone").await?, rows),
        VIR_DOMAIN_GUEST_INFO_HOSTNAME => {
            let answer = ask("guest-get-host-name").await?;
            let name = answer["host-name"].as_str();
            rows.text(VIR_DOMAIN_GUEST_INFO_HOSTNAME_HOSTNAME, name);
            name.map(drop).ok_or_else(|| malformed("guest-get-host-name", "host-name"))
        }
        VIR_DOMAIN_GUEST_INFO_FILESYSTEM => {
            mounted(&filesystems::get(guest).await?, rows);
            Ok(())
        }
        VIR_DOMAIN_GUEST_INFO_DISKS => disks(&ask("guest-get-disks").await?, live, rows),
        VIR_DOMAIN_GUEST_INFO_INTERFACES => {
            cards(&interfaces::get(guest).await?, rows);
            Ok(())
        }
        VIR_DOMAIN_GUEST_INFO_LOAD => load(&ask("guest-get-load").await?, rows),
        _ => Ok(()),
    }
}

fn array<'a>(answer: &'a Json, command: &str) -> Result<&'a Vec<Json>> {
    answer.as_array().ok_or_else(|| malformed(command, "return"))
}

fn users(answer: &Json, rows: &mut Rows) -> Result<()> {
    let users = array(answer, "guest-get-users")?;
    rows.count("user.count", users.len());
    for (at, user) in users.iter().enumerate() {
        rows.text(format!("user.{at}.name"), user["user"].as_str());
        rows.text(format!("user.{at}.domain"), user["domain"].as_str());
        if let Some(seconds) = user["login-time"].as_f64() {
            // Milliseconds; a float casts to the nearest number there is.
            rows.put(format!("user.{at}.login-time"), Value::Ullong((seconds * 1000.0) as u64));
        }
    }
    Ok(())
}

fn system(answer: &Json, rows: &mut Rows) {
    let names = [
        ("id", "os.id"),
        ("name", "os.name"),
        ("pretty-name", "os.pretty-name"),
        ("version", "os.version"),
        ("version-id", "os.version-id"),
        ("machine", "os.machine"),
        ("variant", "os.variant"),
        ("variant-id", "os.variant-id"),
        ("kernel-release", "os.kernel-release"),
        ("kernel-version", "os.kernel-version"),
    ];
    names.into_iter().for_each(|(theirs, ours)| rows.text(ours, answer[theirs].as_str()));
}

fn timezone(answer: &Json, rows: &mut Rows) -> Result<()> {
    let offset = answer["offset"].as_i64().and_then(|o| i32::try_from(o).ok());
    let offset = offset.ok_or_else(|| malformed("guest-get-timezone", "offset"))?;
    rows.text(VIR_DOMAIN_GUEST_INFO_TIMEZONE_NAME, answer["zone"].as_str());
    rows.put(VIR_DOMAIN_GUEST_INFO_TIMEZONE_OFFSET, Value::Int(offset));
    Ok(())
}

fn mounted(all: &[Filesystem], rows: &mut Rows) {
    rows.count(VIR_DOMAIN_GUEST_INFO_FS_COUNT, all.len());
    for (at, one) in all.iter().enumerate() {
        let name = |what: &str| format!("fs.{at}.{what}");
        rows.text(name("name"), Some(&one.name));
        rows.text(name("mountpoint"), Some(&one.mountpoint));
        rows.text(name("fstype"), Some(&one.fstype));
        for (what, bytes) in [("total-bytes", one.total), ("used-bytes", one.used)] {
            if let Some(bytes) = bytes {
                rows.put(name(what), Value::Ullong(bytes));
            }
        }
        rows.count(name("disk.count"), one.disks.len());
        for (n, disk) in one.disks.iter().enumerate() {
            rows.text(name(&format!("disk.{n}.alias")), disk.target.as_deref());
            rows.text(name(&format!("disk.{n}.serial")), disk.serial.as_deref());
            rows.text(name(&format!("disk.{n}.device")), disk.device.as_deref());
        }
    }
}

fn disks(answer: &Json, live: &Domain, rows: &mut Rows) -> Result<()> {
    let disks = array(answer, "guest-get-disks")?;
    rows.count(VIR_DOMAIN_GUEST_INFO_DISK_COUNT, disks.len());
    for (at, disk) in disks.iter().enumerate() {
        let name = |what: &str| format!("disk.{at}.{what}");
        rows.text(name("name"), disk["name"].as_str());
        rows.put(name("partition"), Value::Boolean(disk["partition"].as_bool().unwrap_or(false)));
        let under = disk["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !under.is_empty() {
            rows.count(name("dependency.count"), under.len());
        }
        for (n, other) in under.iter().enumerate() {
            rows.text(name(&format!("dependency.{n}.name")), other.as_str());
        }
        let place = &disk["address"];
        rows.text(name("serial"), place["serial"].as_str());
        let ours = disk_at(live, place).and_then(|d| d.target.dev.as_deref());
        rows.text(name("alias"), ours);
        rows.text(name("guest_alias"), disk["alias"].as_str());
        rows.text(name("guest_bus"), place["bus-type"].as_str());
    }
    Ok(())
}

fn cards(all: &[interfaces::Interface], rows: &mut Rows) {
    rows.count(VIR_DOMAIN_GUEST_INFO_IF_COUNT, all.len());
    for (at, card) in all.iter().enumerate() {
        let name = |what: &str| format!("if.{at}.{what}");
        rows.text(name("name"), Some(&card.name));
        rows.text(name("hwaddr"), card.mac.as_deref());
        rows.count(name("addr.count"), card.addresses.len());
        for (n, address) in card.addresses.iter().enumerate() {
            let kind = if address.kind == VIR_IP_ADDR_TYPE_IPV6 { "ipv6" } else { "ipv4" };
            rows.text(name(&format!("addr.{n}.type")), Some(kind));
            rows.text(name(&format!("addr.{n}.addr")), Some(&address.address));
            rows.put(name(&format!("addr.{n}.prefix")), Value::Uint(address.prefix));
        }
    }
}

fn load(answer: &Json, rows: &mut Rows) -> Result<()> {
    let names = [
        ("load1m", VIR_DOMAIN_GUEST_INFO_LOAD_1M),
        ("load5m", VIR_DOMAIN_GUEST_INFO_LOAD_5M),
        ("load15m", VIR_DOMAIN_GUEST_INFO_LOAD_15M),
    ];
    for (theirs, ours) in names {
        let value = answer[theirs].as_f64().ok_or_else(|| malformed("guest-get-load", theirs))?;
        rows.put(ours, Value::Double(value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(rows: &Rows) -> Vec<&str> {
        rows.0.iter().map(|p| p.name.as_str()).collect()
    }

    #[test]
    fn rows_have_libvirts_names() {
        let mut rows = Rows::default();
        users(&json!([{"user": "root", "login-time": 1.5}]), &mut rows).unwrap();
        assert_eq!(names(&rows), ["user.count", "user.0.name", "user.0.login-time"]);
        assert_eq!(rows.0[2].value, Value::Ullong(1500));
        let mut rows = Rows::default();
        let answer = json!([{"name": "/dev/vda", "partition": true, "dependencies": ["/dev/x"]}]);
        disks(&answer, &Domain::default(), &mut rows).unwrap();
        assert_eq!(
            names(&rows),
            [
                "disk.count",
                "disk.0.name",
                "disk.0.partition",
                "disk.0.dependency.count",
                "disk.0.dependency.0.name"
            ]
        );
        let mut rows = Rows::default();
        assert!(timezone(&json!({"zone": "UTC"}), &mut rows).is_err());
        timezone(&json!({"zone": "UTC", "offset": 0}), &mut rows).unwrap();
        assert_eq!(names(&rows), ["timezone.name", "timezone.offset"]);
        assert!(users(&json!("x"), &mut rows).is_err() && load(&json!({}), &mut rows).is_err());
    }
}

//! Pools that are an iSCSI target the kernel is logged in to.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use virt_error::{Code, Domain, Error, Result};
use virt_host::tool::{Output, Run};
use virt_model::secret::UsageType;
use virt_model::storage::source::{Device, Host, PoolSource};
use virt_model::storage::{Pool, PoolType};

use super::{Backend, Content, Cx, block, chap, disk, scsi};
use crate::keys;
use crate::pool::Sizes;

/// `<pool type='iscsi'>`.
pub struct Iscsi;

/// The port of a server that names none.
const PORT: i32 = 3260;
/// How long a login may take.
const LOGIN: Duration = Duration::from_secs(75);

/// A server and its port, as tools want it.
pub(super) fn portal(host: Option<&Host>) -> Result<String> {
    let host = host.ok_or_else(|| {
        Error::new(
            Code::InvalidArg,
            Domain::Storage,
            "hostname and device path must be specified for iscsi sources",
        )
    })?;
    let good = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if host.name.starts_with('-') || host.name.is_empty() || !host.name.chars().all(good) {
        return Err(Error::new(
            Code::InvalidArg,
            Domain::Storage,
            format!("invalid host name '{}'", host.name),
        ));
    }
    let name = match host.name.contains(':') && !host.name.starts_with('[') {
        true => format!("[{}]", host.name),
        false => host.name.clone(),
    };
    Ok(format!("{name}:{}", host.port.unwrap_or(PORT)))
}

/// The target's name.
pub(super) fn target(pool: &Pool) -> Result<&str> {
    let name = pool.source.device().unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    match !name.is_empty() && !name.starts_with('-') && name.chars().all(good) {
        true => Ok(name),
        false => Err(Error::internal(Domain::Storage, format!("invalid iSCSI target '{name}'"))),
    }
}

fn admin(cx: &Cx<'_>, args: &[&str]) -> Result<Output> {
    // 21: there are no sessions.
    let run = Run::new("iscsiadm", Domain::Storage).deadline(LOGIN).also_ok(&[21]);
    cx.tools.run(&run.args(args.iter().copied()).cancel(&cx.cancel))
}

/// The number of our session: "tcp: [1] 10.0.0.1:3260,1 iqn... (non-flash)".
fn session_in(text: &str, target: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let number = words.nth(1)?.strip_prefix('[')?.strip_suffix(']')?;
        words.any(|w| w == target).then(|| number.parse().ok())?
    })
}

fn session(cx: &Cx<'_>, pool: &Pool) -> Result<Option<u32>> {
    Ok(session_in(&admin(cx, &["--mode", "session"])?.text(), target(pool)?))
}

/// The SCSI host of a session, by the kernel's tree.
fn host_of(session: u32) -> Result<u32> {
    let link = PathBuf::from(format!("{}/class/iscsi_session/session{session}", scsi::SYS));
    let real = fs::canonicalize(&link).map_err(super::failed("Failed to opendir path", &link))?;
    let host = real.components().find_map(|c| c.as_os_str().to_str()?.strip_prefix("host")?.parse().ok());
    host.ok_or_else(|| Error::internal(Domain::Storage, format!("session {session} has no SCSI host")))
}

fn content(cx: &Cx<'_>, pool: &Pool) -> Result<Content> {
    let gone = || Error::internal(Domain::Storage, format!("cannot find session of '{}'", pool.name()));
    let session = session(cx, pool)?.ok_or_else(gone)?;
    let volumes = scsi::volumes(host_of(session)?, pool.path())?;
    Ok(Content { sizes: block::sum(&volumes), volumes, ..Content::default() })
}

impl Backend for Iscsi {
    fn needs(&self) -> &'static [&'static str] {
        &["iscsiadm"]
    }

    fn is_active(&self, cx: &Cx<'_>, pool: &Pool) -> Result<bool> {
        Ok(session(cx, pool)?.is_some())
    }

    fn start(&self, cx: &Cx<'_>, pool: &Pool) -> Result<()> {
        let password = match &pool.source.auth {
            Some(auth) => Some((auth, keys::password(cx.keys, auth, UsageType::Iscsi)?)),
            None => None,
        };
        let (portal, target) = (portal(pool.source.hosts.first())?, target(pool)?);
        if session(cx, pool)?.is_none() {
            admin(cx, &["--mode", "discovery", "--type", "sendtargets", "--portal", &portal])?;
            let node = ["--mode", "node", "--portal", portal.as_str(), "--targetname", target];
            // The host's own boot must not log in: the pool's start does.
            let manual = ["--op", "update", "--name", "node.startup", "--value", "manual"];
            admin(cx, &[&node[..], &manual[..]].concat())?;
            if let Some((auth, password)) = &password {
                for (name, value) in
                    [("node.session.auth.authmethod", "CHAP"), ("node.session.auth.username", &auth.username)]
                {
                    admin(cx, &[&node[..], &["--op", "update", "--name", name, "--value", value]].concat())?;
                }
                chap::set_password(&chap::RECORDS.map(Path::new), target, password)?;
            }
            admin(cx, &[&node[..], &["--login"]].concat())?;
        }
        disk::settle(cx);
        Ok(())
    }

    fn stop(&self, cx: &Cx<'_>, pool: &Pool) -> Result<()> {
        if session(cx, pool)?.is_none() {
            return Ok(());
        }
        let (portal, target) = (portal(pool.source.hosts.first())?, target(pool)?);
        admin(cx, &["--mode", "node", "--portal", &portal, "--targetname", target, "--logout"]).map(drop)
    }

    fn refresh(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Content> {
        if let Some(session) = session(cx, pool)? {
            admin(cx, &["--mode", "session", "-r", &session.to_string(), "-R"])?;
            disk::settle(cx);
        }
        content(cx, pool)
    }

    fn sizes(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Sizes> {
        Ok(content(cx, pool)?.sizes)
    }

    fn finds_sources(&self, _: PoolType) -> bool {
        true
    }

    fn find_sources(&self, cx: &Cx<'_>, spec: Option<&PoolSource>) -> Result<Vec<PoolSource>> {
        let host = spec.and_then(|s| s.hosts.first());
        if host.is_none() {
            let text = "hostname must be specified for iscsi sources";
            return Err(Error::new(Code::InvalidArg, Domain::Storage, text));
        }
        let portal = portal(host)?;
        let said = admin(cx, &["--mode", "discovery", "--type", "sendtargets", "--portal", &portal])?;
        let (host, said) = (host.cloned().unwrap_or_default(), said.text());
        let found = targets(&said).map(|target| PoolSource {
            hosts: vec![host.clone()],
            devices: vec![Device { path: target.to_string(), ..Device::default() }],
            ..PoolSource::default()
        });
        Ok(found.collect())
    }
}

/// "10.0.0.1:3260,1 iqn...".
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|l| l.split_whitespace().nth(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::NoKeys;
    use virt_host::tool::{Cancel, RecordedTools};

    fn pool() -> Pool {
        let xml = "<pool type='iscsi'><name>p</name><source><host name='h'/><device path='iqn.a:b'/></source>\
                   <target><path>/dev/disk/by-path</path></target></pool>";
        Pool::parse(xml).unwrap()
    }

    #[test]
    fn a_session_is_found_by_its_target() {
        let text =
            "tcp: [1] 10.0.0.1:3260,1 iqn.a:bb (non-flash)\ntcp: [12] 10.0.0.1:3260,1 iqn.a:b (non-flash)\n";
        assert_eq!(session_in(text, "iqn.a:b"), Some(12));
        assert_eq!(session_in(text, "iqn.a"), None);
        assert_eq!(session_in("rubbish\n[x] [y]\n", "iqn.a"), None);
    }

    #[test]
    fn a_start_logs_in() {
        let none = Output { status: 21, ..Output::default() };
        let ok = Output::default;
        let node = "iscsiadm --mode node --portal h:3260 --targetname iqn.a:b";
        let tools = RecordedTools::new([
            ("iscsiadm --mode session".to_string(), none),
            ("iscsiadm --mode discovery --type sendtargets --portal h:3260".to_string(), ok()),
            (format!("{node} --op update --name node.startup --value manual"), ok()),
            (format!("{node} --login"), ok()),
            ("udevadm settle --timeout=10".to_string(), ok()),
        ]);
        Iscsi.start(&Cx::new(&tools, &NoKeys, Cancel::default()), &pool()).unwrap();
        assert!(tools.left().is_empty(), "{:?}", tools.left());
    }
}

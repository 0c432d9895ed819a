//! The few keys of systemd's unit files that activation needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// How a socket delivers its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ListenStream=`
    Stream,
    /// `ListenSequentialPacket=`
    SeqPacket,
}

/// One `.socket` unit with one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketUnit {
    /// The unit's name without `.socket`.
    pub name: String,
    /// Absolute path as installed.
    pub path: PathBuf,
    /// Stream or packets.
    pub kind: Kind,
    /// Access bits of the socket file.
    pub mode: u32,
    /// Name of the descriptor the daemon is told (`LISTEN_FDNAMES`).
    pub fd_name: String,
    /// Name of the service it starts, without `.service`.
    pub service: String,
}

/// A `.service` unit and its sockets, in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUnit {
    /// The unit's name without `.service`; also the name of the daemon's program.
    pub name: String,
    /// Sockets it serves.
    pub sockets: Vec<SocketUnit>,
}

type Keys = BTreeMap<(String, String), Vec<String>>;

/// Reads `[Section]` and `Key=value` lines. Continuation lines and quoting are not needed by our units and refused.
fn parse(text: &str) -> Result<Keys> {
    let mut keys = Keys::new();
    let mut section = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.ends_with('\\') {
            bail!("line {}: continuation lines are not supported here", number + 1);
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            keys.entry((section.clone(), key.trim().to_owned())).or_default().push(value.trim().to_owned());
        } else {
            bail!("line {}: neither a section nor Key=value", number + 1);
        }
    }
    Ok(keys)
}

fn one<'a>(keys: &'a Keys, section: &str, key: &str) -> Option<&'a str> {
    keys.get(&(section.to_owned(), key.to_owned())).and_then(|v| v.last()).map(String::as_str)
}

fn socket_unit(name: &str, text: &str) -> Result<SocketUnit> {
    let keys = parse(text)?;
    let get = |key| one(&keys, "Socket", key);
    let (kind, path) = match (get("ListenStream"), get("ListenSequentialPacket")) {
        (Some(path), None) => (Kind::Stream, path),
        (None, Some(path)) => (Kind::SeqPacket, path),
        _ => bail!("exactly one of ListenStream= and ListenSequentialPacket= is expected"),
    };
    if !path.starts_with('/') {
        bail!("{path:?} is not an absolute path");
    }
    let mode = u32::from_str_radix(get("SocketMode").unwrap_or("0666"), 8).context("SocketMode=")?;
    let service = get("Service").unwrap_or(name);
    Ok(SocketUnit {
        name: name.to_owned(),
        path: path.into(),
        kind,
        mode,
        fd_name: get("FileDescriptorName").map_or_else(|| format!("{name}.socket"), str::to_owned),
        service: service.strip_suffix(".service").unwrap_or(service).to_owned(),
    })
}

/// All services that have socket units in `dir`, by name.
///
/// # Errors
/// An unreadable folder or a unit this module does not understand; the text names the file.
pub fn read_dir(dir: &Path) -> Result<Vec<ServiceUnit>> {
    let mut by_service: BTreeMap<String, Vec<SocketUnit>> = BTreeMap::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".socket"))
        else {
            continue;
        };
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let unit = socket_unit(name, &text).with_context(|| path.display().to_string())?;
        by_service.entry(unit.service.clone()).or_default().push(unit);
    }
    Ok(by_service
        .into_iter()
        .map(|(name, mut sockets)| {
            sockets.sort_by(|a, b| a.name.cmp(&b.name));
            ServiceUnit { name, sockets }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_socket_unit() -> Result<()> {
        let unit = socket_unit(
            "virtqemud-fd",
            "[Socket]\n# c\nListenSequentialPacket=/run/x\nSocketMode=0660\nService=virtqemud.service\nFileDescriptorName=fd\n",
        )?;
        assert_eq!(unit.kind, Kind::SeqPacket);
        assert_eq!((unit.mode, unit.fd_name.as_str(), unit.service.as_str()), (0o660, "fd", "virtqemud"));
        Ok(())
    }

    #[test]
    fn refuses_what_it_cannot_honour() {
        for bad in [
            "[Socket]\n",
            "[Socket]\nListenStream=/a\nListenSequentialPacket=/b\n",
            "[Socket]\nListenStream=127.0.0.1:1\n",
            "[Socket]\nListenStream=/a \\\n",
            "[Socket]\nListenStream=/a\nSocketMode=9\n",
            "nonsense\n",
        ] {
            assert!(socket_unit("x", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_projects_units_are_understood() -> Result<()> {
        let services = read_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systemd"))?;
        let names: Vec<_> = services.iter().map(|s| s.name.as_str()).collect();
        assert!(names.contains(&"virtproxyd") && names.contains(&"virtqemud"), "{names:?}");
        for service in &services {
            let mut fds: Vec<_> = service.sockets.iter().map(|s| &s.fd_name).collect();
            fds.sort();
            fds.dedup();
            assert_eq!(fds.len(), service.sockets.len(), "{}: two sockets with one name", service.name);
        }
        Ok(())
    }
}

//! The driver's configuration file: qemu.conf. Keys and defaults are libvirt's; a key that we do not use yet is left
//! unread.

use std::ffi::CString;

use nix::unistd::{Gid, Group, User, getgrouplist};
use virt_daemon::Conf;
use virt_error::{Code, Domain, Error, Result};

use crate::display::Displays;
use crate::process::dac::Owner;

/// QEMU's user where the distribution has one.
const DEFAULT_USER: &str = "libvirt-qemu";

/// Parts of qemu.conf that are used.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Whom guests run as; `None`: as the daemon's own user.
    pub user: Option<Identity>,
    /// Whom emulated TPMs run as; `None`: as the daemon's own user.
    pub swtpm: Option<TpmUser>,
    /// Files change owner while a guest uses them.
    pub dynamic_ownership: bool,
    /// The owner before is kept in extended attributes.
    pub remember_owner: bool,
    /// VNC and SPICE servers.
    pub displays: Displays,
    /// TCP ports of displays.
    pub display_ports: (u16, u16),
    /// TCP ports of VNC over WebSocket.
    pub websocket_ports: (u16, u16),
    /// Folder of dumps of guests that crashed; `None`: "dump" beside the guests' own folders.
    pub auto_dump_path: Option<String>,
    /// A root guest loses all capabilities.
    pub clear_capabilities: bool,
    /// Limits of the process; 0 leaves the system's.
    pub max_processes: u64,
    /// Open files; 0 leaves the system's.
    pub max_files: u64,
}

/// A user that guests run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User and main group.
    pub owner: Owner,
    /// All groups.
    pub groups: Vec<u32>,
}

/// The user of emulated TPMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmUser {
    /// By which swtpm finds the user and the groups.
    pub name: String,
    /// The same in numbers.
    pub owner: Owner,
}

impl Settings {
    /// Reads the keys. A daemon that is not root starts guests as itself and changes no owner.
    ///
    /// Errors: a value of the wrong type, a user or group that does not exist.
    pub fn read(conf: &Conf) -> Result<Self> {
        let root = rustix::process::geteuid().is_root();
        let port = |key: &str, default: u16, lowest: u16| -> Result<u16> {
            let Some(n) = conf.uint(key)? else { return Ok(default) };
            let wrong = || {
                let text = format!(
                    "{}: {key}: port must be between the minimal port and 65535",
                    conf.path().display()
                );
                Error::internal(Domain::Qemu, text)
            };
            u16::try_from(n).ok().filter(|n| *n >= lowest).ok_or_else(wrong)
        };
        Ok(Self {
            user: if root { identity(conf)? } else { None },
            swtpm: if root { swtpm(conf)? } else { None },
            dynamic_ownership: conf.bool("dynamic_ownership")?.unwrap_or(true),
            remember_owner: conf.bool("remember_owner")?.unwrap_or(true),
            displays: Displays::read(conf)?,
            display_ports: (
                port("remote_display_port_min", 5900, 5900)?,
                port("remote_display_port_max", 65535, 5900)?,
            ),
            websocket_ports: (
                port("remote_websocket_port_min", 5700, 5700)?,
                port("remote_websocket_port_max", 65535, 5700)?,
            ),
            auto_dump_path: conf.string("auto_dump_path")?.filter(|t| !t.is_empty()).map(str::to_string),
            clear_capabilities: conf.bool("clear_emulator_capabilities")?.unwrap_or(true),
            max_processes: conf.uint("max_processes")?.unwrap_or(0),
            max_files: conf.uint("max_files")?.unwrap_or(0),
        })
    }
}

/// The user of emulated TPMs: the TPM software stack's own where there is one.
fn swtpm(conf: &Conf) -> Result<Option<TpmUser>> {
    const USER: &str = "tss";
    let given = |key| Ok::<_, Error>(conf.string(key)?.filter(|t| !t.is_empty()));
    let (user, group) = (given("swtpm_user")?, given("swtpm_group")?);
    let failed = |what: &str, name: &str| {
        Error::internal(Domain::Qemu, format!("{}: {what} '{name}' does not exist", conf.path().display()))
    };
    let found = match user {
        Some(name) => find_user(name).ok_or_else(|| failed("user", name))?,
        None => match find_user(USER) {
            Some(found) => found,
            None => return Ok(None),
        },
    };
    let gid = match group {
        Some(name) => find_group(name).ok_or_else(|| failed("group", name))?,
        None => found.gid,
    };
    let owner = Owner { uid: found.uid, gid };
    Ok(Some(TpmUser { name: found.name.unwrap_or_else(|| owner.uid.to_string()), owner }))
}

fn identity(conf: &Conf) -> Result<Option<Identity>> {
    let given_user = conf.string("user")?.filter(|t| !t.is_empty());
    let given_group = conf.string("group")?.filter(|t| !t.is_empty());
    let failed = |what: &str, name: &str| {
        Error::internal(Domain::Qemu, format!("{}: {what} '{name}' does not exist", conf.path().display()))
    };
    let user = match given_user.or_else(|| known_user(DEFAULT_USER).map(|_| DEFAULT_USER)) {
        Some(name) => find_user(name).ok_or_else(|| failed("user", name))?,
        // No such user on this host and none configured: root, as the reference's own default.
        None => Found { uid: 0, gid: 0, name: None },
    };
    let gid = match given_group.or_else(|| known_group(DEFAULT_USER).map(|_| DEFAULT_USER)) {
        Some(name) => find_group(name).ok_or_else(|| failed("group", name))?,
        None => user.gid,
    };
    user.with(gid).map(Some)
}

/// Somebody whom a guest's document names: "USER:GROUP", names or numbers.
///
/// # Errors
/// Code 8 for a user or group that is not there.
pub fn labelled(label: &str) -> Result<Identity> {
    let failed = |what: &str, name: &str| {
        Error::new(Code::InvalidArg, Domain::None, format!("Failed to parse {what} '{name}'"))
    };
    let (user, group) = label.split_once(':').unwrap_or((label, ""));
    let found = find_user(user).ok_or_else(|| failed("user", user))?;
    let gid = match group {
        "" => found.gid,
        group => find_group(group).ok_or_else(|| failed("group", group))?,
    };
    found.with(gid)
}

struct Found {
    uid: u32,
    gid: u32,
    name: Option<String>,
}

impl Found {
    /// The identity with this main group and all other groups of the user.
    fn with(self, gid: u32) -> Result<Identity> {
        let mut groups: Vec<u32> = match self.name.as_deref().and_then(|n| CString::new(n).ok()) {
            Some(name) => getgrouplist(&name, Gid::from_raw(self.gid))
                .map_err(|e| Error::system(Domain::Qemu, "cannot read the groups of QEMU's user", e.into()))?
                .into_iter()
                .map(Gid::as_raw)
                .collect(),
            None => vec![self.gid],
        };
        if !groups.contains(&gid) {
            groups.push(gid);
        }
        Ok(Identity { owner: Owner { uid: self.uid, gid }, groups })
    }
}

/// "+5" is always a number; a plain number is one when no user has that name.
fn find_user(text: &str) -> Option<Found> {
    let by_name = if text.starts_with('+') { None } else { known_user(text) };
    let found = |u: User| Found { uid: u.uid.as_raw(), gid: u.gid.as_raw(), name: Some(u.name) };
    by_name.map(found).or_else(|| {
        let uid = text.trim_start_matches('+').parse().ok()?;
        let known = User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
        Some(known.map_or(Found { uid, gid: 0, name: None }, found))
    })
}

fn find_group(text: &str) -> Option<u32> {
    let by_name = if text.starts_with('+') { None } else { known_group(text) };
    by_name.or_else(|| text.trim_start_matches('+').parse().ok())
}

/// The number of a user: by name, or `+7`.
pub(crate) fn user_id(text: &str) -> Option<u32> {
    find_user(text).map(|u| u.uid)
}

/// The number of a group: by name, or `+7`.
pub(crate) fn group_id(text: &str) -> Option<u32> {
    find_group(text)
}

fn known_user(name: &str) -> Option<User> {
    User::from_name(name).ok().flatten()
}

fn known_group(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|g| g.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings> {
        Settings::read(&Conf::parse("qemu.conf", text).expect("a file"))
    }

    #[test]
    fn defaults_are_libvirts() {
        let s = read("").expect("read");
        assert!(s.dynamic_ownership && s.remember_owner && s.clear_capabilities);
        assert_eq!((s.display_ports, s.websocket_ports), ((5900, 65535), (5700, 65535)));
    }

    #[test]
    fn users_by_name_and_number() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let owner = |text: &str| read(text).expect("read").user.expect("root").owner;
        assert_eq!(owner("user = \"root\"\ngroup = \"root\""), Owner { uid: 0, gid: 0 });
        assert_eq!(owner("user = \"+12\"\ngroup = \"34\""), Owner { uid: 12, gid: 34 });
        assert!(read("user = \"no-such-user\"").is_err());
        assert!(read("remote_display_port_min = 80").is_err());
        assert!(read("dynamic_ownership = \"yes\"").is_err());
    }
}

//! Daemons of an ordinary user, in a test that root runs.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::unistd::{User, chown, geteuid};

use super::program;

/// The user to play; `None` when the test is an ordinary user's already.
pub(super) fn ordinary_user() -> Option<User> {
    geteuid().is_root().then(|| User::from_name("nobody").ok().flatten()).flatten()
}

/// The activator as `user`. The programs are copied to `files`, for the repository may lie where only root gets to.
pub(super) fn as_user(user: &User, files: &Path) -> Command {
    let built = program("virt-up");
    for entry in built.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("virt") && !name.contains('.') && entry.path().is_file() {
            let (from, to) = (entry.path(), files.join(&name));
            let linked = fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop));
            linked.unwrap_or_else(|e| panic!("copying {name}: {e}"));
        }
    }
    let units = files.join("units");
    fs::create_dir(&units).expect("a folder for units");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systemd");
    for entry in fs::read_dir(repository).expect("the units").flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), units.join(entry.file_name())).expect("copying a unit");
        }
    }
    chown(files, Some(user.uid), Some(user.gid)).expect("chown");
    let mut command = Command::new(files.join("virt-up"));
    command.arg("--units").arg(units).uid(user.uid.as_raw()).gid(user.gid.as_raw()).env("HOME", files);
    command
}

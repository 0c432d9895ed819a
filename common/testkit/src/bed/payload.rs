//! The second disk of the bed's machine: our programs, units and filters as `make install` puts them, the test itself,
//! the tiny guest.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::{built, program};

/// The folder of this repository.
pub(super) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder with our programs: the one of the running test's profile.
fn programs() -> PathBuf {
    program("virtqemud").parent().expect("a program is in a folder").to_path_buf()
}

/// Differs when a program, a unit or the test was made anew.
pub(super) fn key() -> u64 {
    let mut hash = DefaultHasher::new();
    let mut files: Vec<_> = [programs(), repository().join("systemd")]
        .iter()
        .flat_map(|dir| fs::read_dir(dir).expect("a folder of the repository"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|p| p.is_file() && p.extension().is_none_or(|e| e != "d"))
        .chain([std::env::current_exe().expect("the test's own path"), repository().join("tests/bed/inside")])
        .collect();
    files.sort();
    for file in files {
        let meta = fs::metadata(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        (file, meta.len(), meta.mtime(), meta.mtime_nsec()).hash(&mut hash);
    }
    hash.finish()
}

/// Makes the disk at `disk`, with a folder beside it for a moment.
pub(super) fn make(disk: &Path) {
    let tree = disk.with_extension("tree");
    let copy = |from: &Path, to: &Path| {
        fs::copy(from, to).unwrap_or_else(|e| panic!("{} to {}: {e}", from.display(), to.display()));
    };
    fs::create_dir_all(tree.join("guest")).expect("a folder for the payload");
    let dest = tree.join("dest");
    let mut install = Command::new("make");
    install.args(["--silent", "install"]).arg(format!("DESTDIR={}", dest.display()));
    run(install.current_dir(repository()).env("BINDIR", programs()).env_remove("MAKEFLAGS"));
    copy(&std::env::current_exe().expect("the test's own path"), &tree.join("test"));
    copy(&repository().join("tests/bed/inside"), &tree.join("inside"));
    let guest = built();
    for file in ["vmlinuz", "initrd.gz", "disk.qcow2"] {
        copy(&guest.join(file), &tree.join("guest").join(file));
    }
    // Lines of backtraces are not worth their size in there.
    run(Command::new("sh")
        .args([
            "-c",
            "strip --strip-debug \"$0\"/test \"$0\"/dest/usr/sbin/* \"$0\"/dest/usr/libexec/virtd/*",
        ])
        .arg(&tree));
    let space = size(&tree) * 9 / 8 + (16 << 20);
    fs::File::create(disk).and_then(|f| f.set_len(space)).expect("the payload's disk");
    run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext2", "-d"]).arg(&tree).arg(disk));
    fs::remove_dir_all(&tree).expect("removing the payload's folder");
}

/// Bytes of all files under `path`, in whole blocks.
fn size(path: &Path) -> u64 {
    let meta = fs::symlink_metadata(path).expect("a file of the payload");
    if !meta.is_dir() {
        return meta.len().next_multiple_of(4096);
    }
    let entries = fs::read_dir(path).expect("a folder of the payload");
    4096 + entries.map(|e| size(&e.expect("an entry").path())).sum::<u64>()
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

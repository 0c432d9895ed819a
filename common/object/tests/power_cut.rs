//! A power cut on a real ext4: the disk as it is when `save` returns holds the object.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use virt_object::store::Store;

fn run(program: &str, args: &[&str]) -> bool {
    let done = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

/// A file system in a file, mounted until dropped.
struct Disk<'a>(&'a str);

impl<'a> Disk<'a> {
    fn mount(image: &str, at: &'a str) -> Option<Self> {
        let ready = fs::create_dir_all(at).is_ok();
        (ready && run("mount", &["-o", "loop", image, at])).then_some(Self(at))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        run("umount", &[self.0]);
    }
}

#[test]
fn what_was_saved_is_there_after_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (image, copy, live, after) = (path("disk"), path("cut"), path("live"), path("after"));
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    if !run("mkfs.ext4", &["-q", &image]) {
        return eprintln!("skipped: mkfs.ext4 is not installed");
    }
    let Some(_disk) = Disk::mount(&image, &live) else {
        return eprintln!("skipped: a loop device cannot be mounted here");
    };
    let store = Store::new(Path::new(&live).join("qemu"), "virsh edit");
    store.save("first", "<first/>").unwrap();
    for round in 0..5 {
        let (new, text) = (format!("new{round}"), format!("<domain>{round}</domain>"));
        store.save(&new, &text).unwrap();
        // The live file system is not told: its dirty pages stay in memory, as at a cut.
        fs::copy(&image, &copy).unwrap();
        cut(&copy, &after, &new, &text);
        store.save("first", &text).unwrap();
        fs::copy(&image, &copy).unwrap();
        cut(&copy, &after, "first", &text);
    }
}

/// Mounts the copy, which replays its journal, and looks for the object.
fn cut(image: &str, at: &str, name: &str, text: &str) {
    let _disk = Disk::mount(image, at).expect("the copy mounts");
    let loaded = Store::new(Path::new(at).join("qemu"), "virsh edit").load().unwrap();
    let found = loaded.iter().find(|object| object.name == name).expect("the object is there");
    assert!(found.text.as_ref().unwrap().ends_with(text), "{:?}", found.text);
}

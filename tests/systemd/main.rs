//! The unit files: as systemd reads them, as installed, and (full level) in a real systemd that boots in a container.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod container;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The units in `systemd` or, for those of users, in `systemd/user`.
fn units(folder: &str) -> Vec<PathBuf> {
    let mut units: Vec<_> = fs::read_dir(top().join(folder))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "socket" || e == "service"))
        .collect();
    units.sort();
    assert!(units.len() >= 6, "{units:?}");
    units
}

#[test]
fn systemd_understands_every_unit() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: systemd-analyze is not installed");
        return;
    }
    for (folder, manager) in [("systemd", "--system"), ("systemd/user", "--user")] {
        verify(folder, manager);
    }
}

fn verify(folder: &str, manager: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut copies = Vec::new();
    for unit in units(folder) {
        let copy = dir.path().join(unit.file_name().unwrap());
        // The daemons are not installed here, and verify wants programs it can run.
        let text = fs::read_to_string(&unit).unwrap();
        let lines = text.lines().map(|l| if l.starts_with("ExecStart=") { "ExecStart=/bin/true" } else { l });
        fs::write(&copy, lines.collect::<Vec<_>>().join("\n")).unwrap();
        copies.push(copy);
    }
    let output =
        Command::new("systemd-analyze").args(["verify", "--man=no", manager]).args(&copies).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Units of the machine itself are read along; only what is said of ours counts.
    let ours: Vec<_> = said.lines().filter(|l| l.contains("virt") && !l.contains("SystemCall")).collect();
    assert!(ours.is_empty(), "{said}");
}

/// What design and QEMU need, whatever else changes in the units.
#[test]
fn units_keep_guests_and_sockets_alive() {
    for unit in [units("systemd"), units("systemd/user")].concat() {
        let text = fs::read_to_string(&unit).unwrap();
        let has = |line: &str| text.lines().any(|l| l == line);
        let name = unit.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".socket") {
            assert!(has("TriggerLimitIntervalSec=0"), "{name}: too many calls would end the socket");
            continue;
        }
        assert!(has("StartLimitIntervalSec=0"), "{name}: a failing daemon would take its socket along");
        if name == "virtqemud.service" {
            assert!(has("KillMode=process"), "{name}: guests outlive the daemon");
            for inherited in ["Protect", "PrivateTmp", "PrivateDevices", "ReadOnly", "MemoryDenyWriteExecute"]
            {
                assert!(
                    !text.lines().any(|l| l.starts_with(inherited)),
                    "{name}: QEMU would inherit {inherited}"
                );
            }
        }
    }
}

/// Guests that start with the host need networks and pools; README's line enables these three.
#[test]
fn what_starts_with_the_host_is_ordered_and_enabled() {
    let readme = fs::read_to_string(top().join("README.md")).unwrap();
    let line = readme.lines().find(|l| l.contains("systemctl enable virt")).unwrap();
    for service in ["virtnetworkd.service", "virtstoraged.service", "virtqemud.service"] {
        let text = fs::read_to_string(top().join("systemd").join(service)).unwrap();
        assert!(text.lines().any(|l| l == "WantedBy=multi-user.target"), "{service}");
        assert!(line.contains(service), "{service} is not in README's line: {line}");
        let after = text.lines().find(|l| l.starts_with("After=")).unwrap();
        let first = ["virtnetworkd.service", "virtstoraged.service"];
        assert_eq!(
            first.iter().all(|f| after.contains(f)),
            service == "virtqemud.service",
            "{service}: {after}"
        );
    }
}

#[test]
fn install_puts_everything_under_destdir() {
    let dir = tempfile::tempdir().unwrap();
    let programs = dir.path().join("programs");
    fs::create_dir_all(&programs).unwrap();
    let services = units("systemd").into_iter().filter(|u| u.extension().is_some_and(|e| e == "service"));
    let daemons = services.map(|u| u.file_stem().unwrap().to_string_lossy().into_owned());
    for name in daemons.chain(["virt-launch", "virt-leaseshelper"].map(str::to_owned)) {
        fs::write(programs.join(name), "").unwrap();
    }
    let dest = dir.path().join("dest");
    let status = Command::new("make")
        .args(["--silent", "install"])
        .arg(format!("DESTDIR={}", dest.display()))
        .current_dir(top())
        .env("BINDIR", programs)
        .env_remove("MAKEFLAGS")
        .status()
        .unwrap();
    assert!(status.success());
    for (folder, place) in [("systemd", "system"), ("systemd/user", "user")] {
        let entries = fs::read_dir(dest.join("usr/lib/systemd").join(place)).unwrap();
        let installed: BTreeSet<_> = entries.map(|e| e.unwrap().file_name()).collect();
        let expected: BTreeSet<_> = units(folder).iter().map(|u| u.file_name().unwrap().to_owned()).collect();
        assert_eq!(installed, expected);
    }
    for file in [
        "usr/sbin/virtproxyd",
        "usr/sbin/virtqemud",
        "usr/libexec/virtd/virt-launch",
        "usr/lib/sysusers.d/virtd.conf",
        "usr/lib/tmpfiles.d/virtd.conf",
    ] {
        assert!(dest.join(file).is_file(), "{file}");
    }
}

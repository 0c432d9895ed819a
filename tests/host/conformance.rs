//! Likeness with recordings of the reference, that are read where they are (`VIRT_CONFORMANCE`).
//!
//! A floor is a share that was reached once and must not be lost, less one or two commands of a group: what a guest says
//! at the very moment it is asked is not the same on every machine. Raise it when more is reached.

use std::path::Path;
use std::process::{Command, Stdio};

use virt_testkit::host::{Host, Options};
use virt_tests::recordings;

/// Percent of the commands of a scenario group that must answer as recorded.
const GROUPS: [(&str, f64); 10] = [
    ("host", 94.0),
    ("definitions", 96.0),
    // The recorded guest never set the address it leased; the one built here does, and `domifaddr` shows it.
    ("lifecycle", 86.0),
    ("monitoring", 89.0),
    ("live", 93.0),
    // A guest that woke up stays "event wakeup" until a `snapshot-revert`, which is not there yet, starts it anew.
    ("stopping", 87.0),
    ("secrets", 100.0),
    ("storage", 94.0),
    ("networks", 90.0),
    ("filters", 83.0),
];

/// A group that is here for these commands only: node devices have no daemon yet.
const DEVICES: &str = "devices";
const INTERFACES: &str = "iface-";

/// Percent of the cases of a suite.
const SUITES: [(&str, f64); 5] =
    [("argv", 97.0), ("domain", 83.0), ("secret", 100.0), ("network", 97.0), ("nwfilter", 97.0)];

/// Runs one of the scripts and returns its table: name, reached, of how many.
fn table(host: &Host, script: &Path, args: &[&str]) -> (Vec<(String, u32, u32)>, String) {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).arg(host.uri()).args(args);
    for (ours, theirs) in [
        ("run/libvirt", "/run/libvirt"),
        ("var/lib/libvirt", "/var/lib/libvirt"),
        ("var/log/libvirt", "/var/log/libvirt"),
        ("var/cache/libvirt", "/var/cache/libvirt"),
        ("etc/libvirt", "/etc/libvirt"),
    ] {
        command.args(["--state", &format!("{}={theirs}", host.root().join(ours).display())]);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}");
    assert!(output.status.success(), "{} failed", script.display());
    let row = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [name, reached, "of", total, ..] = words[..] else { return None };
        Some((name.to_owned(), reached.parse().ok()?, total.parse().ok()?))
    };
    (text.lines().filter_map(row).collect(), text)
}

fn check(rows: &[(String, u32, u32)], floors: &[(&str, f64)]) {
    for (name, floor) in floors {
        let (_, reached, total) =
            rows.iter().find(|r| r.0 == *name).unwrap_or_else(|| panic!("no row {name}"));
        let percent = 100.0 * f64::from(*reached) / f64::from(*total);
        assert!(percent >= *floor, "{name}: {reached} of {total}, {percent:.1} % is below {floor} %");
    }
}

#[test]
fn everyday_commands() {
    let Some(dir) = recordings() else { return };
    let Some(host) = Host::ours(Options::default()) else { return };
    let _ = host.image();
    let guest = host.files().to_owned();
    let [scenario, golden] = ["everyday.txt", "everyday.golden.json"].map(|f| dir.join(f));
    let mut args = vec![
        scenario.to_str().unwrap(),
        "--guest",
        guest.to_str().unwrap(),
        "--golden",
        golden.to_str().unwrap(),
        "--show",
        "400",
    ];
    args.extend(GROUPS.iter().map(|(name, _)| *name).chain([DEVICES]).flat_map(|name| ["--group", name]));
    let (rows, text) = table(&host, &dir.join("virsh.py"), &args);
    check(&rows, &GROUPS);
    assert!(rows.iter().any(|row| row.0 == DEVICES), "no row {DEVICES}");
    let other: Vec<&str> = text.lines().map(str::trim).filter(|l| l.starts_with(INTERFACES)).collect();
    assert!(other.is_empty(), "not as recorded: {other:?}");
}

#[test]
fn documents_and_command_lines() {
    let Some(dir) = recordings() else { return };
    let Some(host) = Host::ours(Options::default()) else { return };
    let args: Vec<_> = SUITES.iter().flat_map(|(name, _)| ["--suite", name]).collect();
    let (rows, _) = table(&host, &dir.join("run.py"), &args);
    check(&rows, &SUITES);
}

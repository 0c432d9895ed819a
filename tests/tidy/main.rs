//! House rules that a compiler does not hold: who may depend on whom, what may be in a file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod repo;

use std::collections::BTreeMap;

use repo::{File, crates, files};

/// A file is about one concept; longer ones hide two.
const LONGEST: usize = 800;
/// The daemons: the programs that service units start.
fn daemons() -> Vec<String> {
    let units =
        files().into_iter().filter(|f| f.path.starts_with("systemd/") && f.path.ends_with("d.service"));
    let mut daemons: Vec<_> =
        units.filter_map(|f| Some(f.path.rsplit('/').next()?.strip_suffix(".service")?.to_owned())).collect();
    daemons.sort();
    daemons.dedup();
    let crates = crates();
    for daemon in &daemons {
        assert!(crates.contains_key(daemon), "{daemon}.service is of no crate of the workspace");
    }
    assert!(daemons.len() >= 7, "only {daemons:?} have units");
    daemons
}

fn rust() -> Vec<File> {
    let files: Vec<_> = files().into_iter().filter(|f| f.path.ends_with(".rs")).collect();
    assert!(files.len() > 50, "only {} source files were found", files.len());
    files
}

/// One line a finding; the test names them all.
fn nothing(findings: Vec<String>, rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n{}", findings.join("\n"));
}

#[test]
fn files_stay_short() {
    let long = rust()
        .into_iter()
        .filter(|f| !f.is_generated() && f.text.lines().count() > LONGEST)
        .map(|f| format!("{}: {} lines", f.path, f.text.lines().count()))
        .collect();
    nothing(long, "files over 800 lines, to be split by concept");
}

#[test]
fn nothing_is_left_to_do() {
    // Written so that this file does not find itself.
    let marks = ["todo", "unimplemented", "dbg"].map(|m| format!("{m}!("));
    let ignored = format!("#[{}", "ignore");
    let found = rust()
        .into_iter()
        .flat_map(|f| {
            let marks = marks.clone();
            let ignored = ignored.clone();
            f.lines()
                .filter(|(_, line)| !line.trim_start().starts_with("//"))
                .filter(|(_, line)| marks.iter().any(|m| line.contains(m)) || line.contains(&ignored))
                // A benchmark for people is no test that was given up.
                .filter(|(_, line)| !line.contains("= \"measures"))
                .map(|(at, line)| format!("{at}: {}", line.trim()))
                .collect::<Vec<_>>()
        })
        .collect();
    nothing(found, "holes in the code");
}

#[test]
fn every_module_says_what_it_is() {
    let silent = rust()
        .into_iter()
        .filter(|f| !f.is_generated() && !f.path.ends_with("/tests.rs"))
        .filter(|f| {
            // A file with one item may leave it to the item's own comment.
            let mut code =
                f.lines().map(|(_, l)| l.trim()).filter(|l| !l.is_empty() && !l.starts_with("use "));
            !code.next().is_some_and(|l| l.starts_with("//!") || l.starts_with("///"))
        })
        .map(|f| f.path)
        .collect();
    nothing(silent, "source files that begin with no comment");
}

#[test]
fn no_machines_paths_are_in_the_project() {
    let words = ["/wo rk/", "/fa rm/", ".lib rary", "/ro ot/"].map(|w| w.replace(' ', ""));
    let found = files()
        .into_iter()
        .filter(|f| f.path != "Cargo.lock")
        .flat_map(|f| {
            let words = words.clone();
            f.lines()
                .filter(|(_, line)| words.iter().any(|w| line.contains(w)))
                .map(|(at, line)| format!("{at}: {}", line.trim()))
                .collect::<Vec<_>>()
        })
        .collect();
    nothing(found, "paths of one machine");
}

#[test]
fn the_law_of_the_walls() {
    let daemons = daemons();
    let mut found = Vec::new();
    for (name, krate) in crates() {
        let uses = |dependency: &str| krate.dependencies.iter().any(|d| d == dependency);
        if name == "virt-model" {
            for barred in ["tokio", "tonic", "virt-rpc", "virt-api", "virt-host", "prost"] {
                if uses(barred) {
                    found.push(format!("{name} depends on {barred}: documents know no runtime and no wire"));
                }
            }
        }
        if daemons.contains(&name) {
            for other in daemons.iter().filter(|d| uses(d)) {
                found.push(format!("{name} depends on {other}: daemons speak gRPC with each other"));
            }
        }
        if uses("virt-testkit") || uses("virt-activate") {
            let allowed = ["virt-testkit", "virt-tests"];
            if !allowed.contains(&name.as_str()) {
                found.push(format!("{name} depends on a crate for development"));
            }
        }
        if name == "virt-api" && krate.dependencies.iter().any(|d| d.starts_with("virt-")) {
            found.push("virt-api depends on our other crates: the API knows no implementation".to_owned());
        }
        // Only a -sys crate may lift the ban on unsafe code, so it has lints of its own.
        let lints = if name.ends_with("-sys") { "[lints." } else { "[lints]\nworkspace = true" };
        if !krate.manifest.contains(lints) {
            found.push(format!("{name} does not inherit the workspace's lints"));
        }
    }
    nothing(found, "walls");
}

#[test]
fn documents_touch_no_files() {
    let found = within(
        "common/model/src/",
        &["std::fs", "std::process", "File::open", "TcpStream", "UdpSocket", "std::os::unix::net"],
    );
    nothing(found, "the model reads and writes no files");
}

/// tonic is in maintenance: its types stay where they can be replaced.
#[test]
fn tonic_stays_in_its_place() {
    let found = within("", &["tonic::", "use tonic"])
        .into_iter()
        .filter(|line| {
            let place = line.split(':').next().unwrap();
            let rpc = ["common/rpc/", "common/api/", "xtask/", "tests/"].iter().any(|p| place.starts_with(p));
            let edge = place.contains("/api/") || place.contains("/api.rs");
            !rpc && !edge
        })
        .collect();
    nothing(found, "tonic outside rpc and api modules");
}

#[test]
fn unsafe_code_only_in_sys_crates() {
    let found = rust()
        .into_iter()
        .filter(|f| !f.path.split('/').any(|part| part.ends_with("-sys")))
        .flat_map(|f| {
            f.lines()
                .filter(|(_, l)| !l.trim_start().starts_with("//"))
                .filter(|(_, l)| {
                    l.contains("unsafe {") || l.contains("unsafe fn") || l.contains("allow(unsafe")
                })
                .map(|(at, l)| format!("{at}: {}", l.trim()))
                .collect::<Vec<_>>()
        })
        .filter(|line| !line.starts_with("tests/tidy/"))
        .collect();
    nothing(found, "unsafe code");
}

/// Lines in files under `prefix` (outside tests) that hold one of `words`.
fn within(prefix: &str, words: &[&str]) -> Vec<String> {
    rust()
        .into_iter()
        .filter(|f| f.path.starts_with(prefix) && !f.is_generated() && !f.path.contains("/tests"))
        .flat_map(|f| {
            f.lines()
                .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
                .filter(|(_, line)| !line.trim_start().starts_with("//"))
                .filter(|(_, line)| words.iter().any(|w| line.contains(w)))
                .map(|(at, line)| format!("{at}: {}", line.trim()))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Every ADR is numbered once and listed.
#[test]
fn decisions_are_listed() {
    let mut numbers: BTreeMap<String, String> = BTreeMap::new();
    let all = files();
    let list = all.iter().find(|f| f.path == "docs/adr/README.md").expect("docs/adr/README.md").text.clone();
    let mut found = Vec::new();
    for file in all.iter().filter(|f| f.path.starts_with("docs/adr/") && f.path != "docs/adr/README.md") {
        let name = file.path.trim_start_matches("docs/adr/");
        let number = name.split('-').next().unwrap_or_default().to_owned();
        if let Some(other) = numbers.insert(number, name.to_owned()) {
            found.push(format!("{name} and {other} have one number"));
        }
        if !list.contains(name) {
            found.push(format!("{name} is not listed in docs/adr/README.md"));
        }
    }
    nothing(found, "decisions");
}

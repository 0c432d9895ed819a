//! Documents beside a guest keep to the published schema when we write them. Debian's libvirt-common installs it;
//! without it, without xmllint or without recorded cases the test says that it was skipped.
#![allow(clippy::expect_used)] // A test's helpers may fail loudly.

use std::path::{Path, PathBuf};
use std::process::Command;

use virt_error::Result;
use virt_model::Mode;
use virt_model::backup::Backup;
use virt_model::network::Network;
use virt_model::secret::Secret;
use virt_model::snapshot::{Checkpoint, Snapshot};
use virt_model::storage::Pool;

const SCHEMAS: &str = "/usr/share/libvirt/schemas";

/// The schema's complaint about a file.
fn complaint(schema: &str, file: &Path) -> Option<String> {
    let out = Command::new("xmllint")
        .args(["--noout", "--relaxng"])
        .arg(Path::new(SCHEMAS).join(schema))
        .arg(file)
        .output()
        .expect("xmllint runs");
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    (!out.status.success()).then(|| text.lines().next().unwrap_or_default().to_string())
}

fn written(suite: &str, text: &str) -> Result<String> {
    match suite {
        "snapshot-xml" => Snapshot::parse(text, Mode::CONFIG).map(|d| d.format(Mode::CONFIG)),
        "checkpoint-xml" => Checkpoint::parse(text, Mode::CONFIG).map(|d| d.format(Mode::CONFIG)),
        "backup-xml" => Backup::parse(text, Mode::CONFIG).map(|d| d.format(Mode::CONFIG)),
        "network" => Network::parse(text, Mode::CONFIG).map(|d| d.format(Mode::CONFIG)),
        "secret" => Secret::parse(text).map(|d| d.format()),
        _ => Pool::parse(text).map(|d| d.format(Mode::CONFIG)),
    }
}

#[test]
fn documents_we_write_keep_to_the_schema() {
    let kinds = [
        ("snapshot-xml", "domainsnapshot.rng"),
        ("checkpoint-xml", "domaincheckpoint.rng"),
        ("backup-xml", "domainbackup.rng"),
        ("network", "network.rng"),
        ("secret", "secret.rng"),
        ("pool", "storagepool.rng"),
    ];
    let tools = Path::new(SCHEMAS).exists() && Command::new("xmllint").arg("--version").output().is_ok();
    let Some(cases) = std::env::var_os("VIRT_CONFORMANCE").filter(|_| tools) else {
        println!("skipped: VIRT_CONFORMANCE, {SCHEMAS} or xmllint is missing");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (mut broken, mut total) = (Vec::new(), 0);
    for (suite, schema) in kinds {
        let entries = std::fs::read_dir(Path::new(&cases).join("cases").join(suite)).expect("the suite");
        let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        files.retain(|p| p.to_string_lossy().ends_with(".in.xml"));
        files.sort();
        let mut good = 0;
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a readable case");
            let Ok(ours) = written(suite, &text) else { continue };
            // What did not keep to the schema when it was read need not when it is written.
            if complaint(schema, &file).is_some() {
                continue;
            }
            let place = folder.path().join("written.xml");
            std::fs::write(&place, ours).expect("a writable folder");
            match complaint(schema, &place) {
                None => good += 1,
                Some(why) => broken.push(format!("{}: {why}", file.display())),
            }
        }
        println!("{suite}: {good} keep to {schema}");
        total += good;
    }
    assert!(total > 0, "no document was accepted");
    assert!(broken.is_empty(), "{} of {}:\n{}", broken.len(), total + broken.len(), broken.join("\n"));
}

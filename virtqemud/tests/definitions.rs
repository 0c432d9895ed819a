//! Definitions on a temporary root: names, files, events, changes, restarts.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Instant;

use common::{Host, QEMU};
use virt_api::domain::v1alpha1::*;
use virt_error::Code;
use virtqemud::api::{define, metadata};
use virtqemud::config::vcpus;
use virtqemud::definitions::{Announce, Completion, Definitions};
use virtqemud::emulator::Emulators;

const UUID_A: &str = "c7a5fdbd-cdaf-4455-926a-d65c16db1801";
const UUID_B: &str = "c7a5fdbd-cdaf-4455-926a-d65c16db1802";

fn document(name: &str, uuid: &str) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory><vcpu>2</vcpu>\
         <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>\
         <disk type='file'><source file='/x.img'/><target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
}

/// `None` (with a word why) where the host has no emulator.
fn definitions(host: &Host) -> Option<Definitions> {
    if !std::path::Path::new(QEMU).exists() {
        eprintln!("skipped: no {QEMU}");
        return None;
    }
    let emulators = Arc::new(Emulators::new(Some(host.root.path().join("facts"))));
    Some(Definitions::new(host.driver.clone(), emulators))
}

fn named(name: &str) -> Option<DomainRef> {
    Some(DomainRef { name: name.into(), ..DomainRef::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_lives_and_survives_a_restart() {
    let mut host = Host::new();
    let Some(definitions) = definitions(&host) else { return };
    let guest = definitions.define(document("a", UUID_A)).await.unwrap();
    let config = guest.published().value.config.clone().unwrap();
    assert!(config.devices.disks[0].info.address.is_some(), "addresses are assigned");
    let file = host.driver.folders.config.join("a.xml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("virsh edit a") && text.contains("<name>a</name>"), "{text}");

    let same = definitions.define(document("a", UUID_A)).await.unwrap();
    assert!(Arc::ptr_eq(&guest, &same));
    assert_eq!(host.events.take(), ["- lifecycle 0 0", "- lifecycle 0 1"]);

    definitions.set_autostart(&guest, false, true).await.unwrap();
    let request = RenameRequest { domain: named("a"), new_name: "b".into(), flags: 0 };
    let renamed = define::rename(&definitions, request).await.unwrap();
    assert_eq!(renamed.domain.unwrap().name, "b");
    assert!(!file.exists() && host.driver.folders.config.join("autostart/b.xml").exists());
    assert_eq!(host.events.take(), ["- lifecycle 1 1", "- lifecycle 0 2"]);

    // Another daemon on the same root.
    let after = Host::on(std::mem::replace(&mut host.root, tempfile::tempdir().unwrap()));
    let again = Definitions::new(after.driver.clone(), definitions.emulators().clone());
    assert_eq!(again.load().unwrap(), 1);
    let guest = after.driver.find(named("b").as_ref()).unwrap();
    assert!(guest.published().value.autostart);
    assert_eq!(guest.uuid().to_string(), UUID_A);
    let undefine = UndefineRequest { domain: named("b"), flags: 0 };
    define::undefine(&again, undefine.clone()).await.unwrap();
    assert_eq!(after.events.take(), ["- lifecycle 1 0"]);
    assert_eq!(define::undefine(&again, undefine).await.unwrap_err().code(), Code::NoDomain);
    assert_eq!(again.load().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clashes_and_bad_documents_change_nothing() {
    let host = Host::new();
    let Some(definitions) = definitions(&host) else { return };
    definitions.define(document("a", UUID_A)).await.unwrap();
    host.events.take();
    let refused = async |xml: String| definitions.define(xml).await.map(|_| ()).unwrap_err();
    let text = refused(document("a", UUID_B)).await.message();
    assert_eq!(text, format!("operation failed: domain 'a' already exists with uuid {UUID_A}"));
    let text = refused(document("b", UUID_A)).await.message();
    assert_eq!(text, format!("operation failed: domain 'a' is already defined with uuid {UUID_A}"));
    assert_eq!(refused("<domain type='qemu'><name>x".into()).await.code(), Code::XmlDetail);
    assert_eq!(refused(document("b/c", UUID_B)).await.message(), "XML error: name b/c cannot contain '/'");
    assert_eq!(refused(document("..", UUID_B)).await.code(), Code::XmlError);
    let text = define::define(&definitions, DefineRequest { xml: document("b", UUID_B), flags: 2 }).await;
    assert_eq!(text.unwrap_err().message(), "unsupported flags (0x2) in function qemuDomainDefineXMLFlags");
    assert_eq!((host.driver.guests.len(), host.events.take().len()), (1, 0));
    let undefine = |flags| define::undefine(&definitions, UndefineRequest { domain: named("a"), flags });
    let text = undefine(12).await.unwrap_err().message();
    assert_eq!(text, "Requested operation is not valid: cannot both keep and delete nvram");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_leave_whole_objects() {
    let host = Host::new();
    let Some(definitions) = definitions(&host) else { return };
    let mut jobs = tokio::task::JoinSet::new();
    for round in 0..60 {
        let definitions = definitions.clone();
        jobs.spawn(async move {
            let name = format!("g{}", round % 3);
            let uuid = format!("c7a5fdbd-cdaf-4455-926a-d65c16db190{}", round % 3);
            if round % 4 == 3 {
                let request = UndefineRequest { domain: named(&name), flags: 0 };
                let _ = define::undefine(&definitions, request).await;
            } else {
                definitions.define(document(&name, &uuid)).await.unwrap();
            }
        });
    }
    while let Some(done) = jobs.join_next().await {
        done.unwrap();
    }
    let mut files: Vec<_> = std::fs::read_dir(&host.driver.folders.config)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.ends_with(".xml"))
        .collect();
    files.sort();
    let mut known: Vec<_> =
        host.driver.guests.list().iter().map(|g| format!("{}.xml", g.published().value.name)).collect();
    known.sort();
    assert_eq!(files, known);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_stored_and_told() {
    let host = Host::new();
    let Some(definitions) = definitions(&host) else { return };
    let guest = definitions.define(document("a", UUID_A)).await.unwrap();
    host.events.take();
    let set = SetMetadataRequest {
        domain: named("a"),
        r#type: 1,
        metadata: Some("t".into()),
        flags: 2,
        ..Default::default()
    };
    metadata::set_metadata(&definitions, set.clone()).await.unwrap();
    let get = GetMetadataRequest { domain: named("a"), r#type: 1, uri: None, flags: 0 };
    assert_eq!(metadata::get_metadata(&definitions, get).unwrap().metadata, "t");
    let live =
        metadata::set_metadata(&definitions, SetMetadataRequest { flags: 1, ..set }).await.unwrap_err();
    assert_eq!(live.message(), "Requested operation is not valid: domain is not running");
    let text = std::fs::read_to_string(host.driver.folders.config.join("a.xml")).unwrap();
    assert!(text.contains("<title>t</title>"), "{text}");
    let native =
        |format: &str| XmlToNativeRequest { format: format.into(), xml: document("n", UUID_B), flags: 0 };
    let line = define::xml_to_native(&definitions, native("qemu-argv")).await.unwrap().config;
    assert!(line.contains("qemu-system-x86_64 -name guest=n,debug-threads=on -S"), "{line}");
    assert!(define::xml_to_native(&definitions, native("foo")).await.is_err());
    assert_eq!(host.driver.guests.len(), 1);
    assert!(host.events.take()[0].contains("MetadataChange"));

    let fails = definitions
        .change(&guest, "vcpus", Completion::Keep, Announce::Updated, |d| vcpus::set_current(d, 9, false));
    assert_eq!(fails.await.unwrap_err().code(), Code::InvalidArg);
    assert_eq!(host.events.take().len(), 0);
    definitions
        .change(&guest, "disk", Completion::Complete, Announce::Updated, |d| {
            let disk = "<disk type='file'><source file='/y.img'/><target dev='vdb'/></disk>";
            let device = virtqemud::config::devices::read(disk, virt_model::Mode::CONFIG)?;
            virtqemud::config::devices::attach(d, device)
        })
        .await
        .unwrap();
    let config = guest.published().value.config.clone().unwrap();
    assert!(config.devices.disks[1].info.address.is_some());
    assert_eq!(host.events.take(), ["- lifecycle 0 1"]);
}

/// Figures, not a test of speed: `VIRT_MEASURE=1 cargo test -p virtqemud --test definitions measure -- --nocapture`.
#[tokio::test(flavor = "multi_thread")]
async fn measure() {
    if std::env::var_os("VIRT_MEASURE").is_none() {
        println!("skipped: VIRT_MEASURE is unset");
        return;
    }
    let mut host = Host::new();
    let Some(definitions) = definitions(&host) else { return };
    let mut done = 0u32;
    let document = |n: u32| document(&format!("g{n}"), &uuid::Uuid::from_u128(u128::from(n) + 1).to_string());
    definitions.define(document(0)).await.unwrap();
    for goal in [100u32, 1_000, 10_000] {
        while done + 101 < goal {
            done += 1;
            definitions.define(document(done)).await.unwrap();
        }
        let start = Instant::now();
        for _ in 0..100 {
            done += 1;
            definitions.define(document(done)).await.unwrap();
        }
        let define = start.elapsed() / 100;
        let start = Instant::now();
        let rows = host.driver.guests.list().iter().map(|g| g.published().value.name.len()).sum::<usize>();
        let list = start.elapsed();
        let start = Instant::now();
        for n in 0..100 {
            let domain = named(&format!("g{}", done - n));
            define::undefine(&definitions, UndefineRequest { domain, flags: 0 }).await.unwrap();
        }
        let undefine = start.elapsed() / 100;
        done -= 100;
        eprintln!("{goal:6}: define {define:?}, list {list:?} ({rows}), undefine {undefine:?}");
    }
    let again = Host::on(std::mem::replace(&mut host.root, tempfile::tempdir().unwrap()));
    let start = Instant::now();
    let count = Definitions::new(again.driver.clone(), definitions.emulators().clone()).load().unwrap();
    eprintln!("load of {count}: {:?}", start.elapsed());
}

//! Defining, changing and removing secrets, on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use virt_api::secret::v1alpha1::{SecretRef, Usage};
use virt_error::{Domain, Result};
use virt_object::busy::Busy;
use virt_object::events::{Journal, Limits};
use virt_object::owner::Kind;
use virt_secret::Value;
use virtsecretd::definitions::{define, load, set_value, undefine};
use virtsecretd::driver::Driver;
use virtsecretd::vault::Vault;

const A: &str = "0d000000-0000-4000-8000-000000000001";
const B: &str = "0d000000-0000-4000-8000-000000000002";

/// A daemon without its sockets.
struct Daemon {
    driver: Arc<Driver>,
    busy: Busy,
    _run: TempDir,
}

fn start(dir: &Path) -> Daemon {
    let (run, busy) = (tempfile::tempdir().unwrap(), Busy::new());
    let journal =
        Arc::new(Journal::open(&run.path().join("events"), Limits::default(), busy.clone()).unwrap());
    let kind = Kind::new(Domain::Secret, tokio::runtime::Handle::current(), busy.clone());
    let driver = Driver::new(dir, Vault::new(dir, None), kind, journal, busy.clone());
    load(&driver).unwrap();
    Daemon { driver, busy, _run: run }
}

fn xml(uuid: &str, attributes: &str, volume: &str) -> String {
    format!(
        "<secret {attributes}><uuid>{uuid}</uuid><usage type='volume'><volume>{volume}</volume></usage></secret>"
    )
}

impl Daemon {
    async fn define(&self, xml: String) -> Result<()> {
        define(&self.driver, xml).await.map(drop)
    }

    async fn refusal(&self, xml: String) -> String {
        self.define(xml).await.unwrap_err().message()
    }

    fn find(&self, volume: &str) -> Result<Arc<virtsecretd::secret::Secret>> {
        let usage = Some(Usage { r#type: 1, id: volume.to_owned() });
        self.driver.find(Some(&SecretRef { usage, ..SecretRef::default() }))
    }

    async fn set(&self, volume: &str, value: &str) -> Result<()> {
        set_value(&*self.find(volume)?, Arc::new(Value::new(value.into()))).await
    }

    async fn value(&self, volume: &str) -> Result<String> {
        let value = self.driver.value(&*self.find(volume)?).await?;
        Ok(String::from_utf8(value.bytes().to_vec()).unwrap())
    }
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_use_belongs_to_one_secret_for_life() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path());
    daemon.define(xml(A, "private='yes'", "/a")).await.unwrap();
    assert_eq!(
        daemon.refusal(xml(B, "", "/a")).await,
        format!("internal error: a secret with UUID {A} already defined for use with /a")
    );
    assert_eq!(
        daemon.refusal(xml(A, "private='yes'", "/b")).await,
        format!("internal error: a secret with UUID {A} is already defined for use with /a")
    );
    assert_eq!(
        daemon.refusal(xml(A, "private='no'", "/a")).await,
        "internal error: cannot change private flag on existing secret"
    );
    // Another kind of use may have the same name.
    let ceph = format!("<secret><uuid>{B}</uuid><usage type='ceph'><name>/a</name></usage></secret>");
    daemon.define(ceph).await.unwrap();
    assert_eq!(files(dir.path()), [format!("{A}.xml"), format!("{B}.xml")]);
    undefine(&daemon.find("/a").unwrap()).await.unwrap();
    daemon.define(xml(A, "", "/b")).await.unwrap();
}

#[tokio::test]
async fn a_secret_without_a_uuid_gets_one() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path());
    let bare = "<secret><usage type='volume'><volume>/a</volume></usage></secret>";
    daemon.define(bare.into()).await.unwrap();
    let refused = daemon.refusal(bare.into()).await;
    assert!(refused.contains("already defined for use with /a"), "{refused}");
    assert_eq!(daemon.driver.secrets.len(), 1);
}

#[tokio::test]
async fn an_ephemeral_secret_is_on_no_disk_and_keeps_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path());
    daemon.define(xml(A, "ephemeral='yes'", "/a")).await.unwrap();
    daemon.set("/a", "hunter2").await.unwrap();
    assert_eq!((files(dir.path()).len(), daemon.value("/a").await.unwrap()), (0, "hunter2".into()));
    assert!(daemon.busy.count() > 0);
    // It moves to the disk and back with its value.
    daemon.define(xml(A, "ephemeral='no'", "/a")).await.unwrap();
    assert_eq!(files(dir.path()), [format!("{A}.base64"), format!("{A}.xml")]);
    assert_eq!((daemon.value("/a").await.unwrap(), daemon.busy.count()), ("hunter2".into(), 0));
    daemon.define(xml(A, "ephemeral='yes'", "/a")).await.unwrap();
    assert_eq!((files(dir.path()).len(), daemon.value("/a").await.unwrap()), (0, "hunter2".into()));
    undefine(&daemon.find("/a").unwrap()).await.unwrap();
    assert_eq!((daemon.busy.count(), daemon.driver.secrets.len()), (0, 0));
}

#[tokio::test]
async fn a_start_finds_everything_again_and_finishes_a_removal() {
    let dir = tempfile::tempdir().unwrap();
    {
        let daemon = start(dir.path());
        for (uuid, volume) in [(A, "/a"), (B, "/b")] {
            daemon.define(xml(uuid, "private='yes'", volume)).await.unwrap();
            daemon.set(volume, volume).await.unwrap();
        }
    }
    // A kill in the middle of removing B; a file that somebody broke.
    fs::remove_file(dir.path().join(format!("{B}.xml"))).unwrap();
    fs::write(dir.path().join("broken.xml"), "<secret").unwrap();
    let daemon = start(dir.path());
    assert_eq!((daemon.driver.secrets.len(), daemon.value("/a").await.unwrap()), (1, "/a".into()));
    assert_eq!(files(dir.path()), [format!("{A}.base64"), format!("{A}.xml"), "broken.xml".into()]);
    // The UUID is free, and nothing is left of the old value.
    daemon.define(xml(B, "", "/b")).await.unwrap();
    let missing = daemon.value("/b").await.unwrap_err();
    assert_eq!(missing.message(), format!("Secret not found: secret '{B}' does not have a value"));
}

#[tokio::test]
async fn what_cannot_be_written_is_not_half_made() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path());
    daemon.define(xml(A, "", "/a")).await.unwrap();
    daemon.set("/a", "old").await.unwrap();
    // The temporary file's name is taken by a folder: for root, too, it cannot be written.
    fs::create_dir(dir.path().join(format!("{A}.base64.new"))).unwrap();
    fs::create_dir(dir.path().join(format!("{B}.xml.new"))).unwrap();
    assert_eq!(daemon.set("/a", "new").await.unwrap_err().code() as i32, 38);
    assert_eq!(daemon.value("/a").await.unwrap(), "old");
    assert_eq!(daemon.define(xml(B, "", "/b")).await.unwrap_err().code() as i32, 38);
    assert!(daemon.find("/b").is_err());
    fs::remove_dir(dir.path().join(format!("{B}.xml.new"))).unwrap();
    daemon.define(xml(B, "", "/b")).await.unwrap();
}

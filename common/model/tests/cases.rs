//! Reading and writing over recorded cases of the reference. `VIRT_CONFORMANCE` names their folder.
#![allow(clippy::expect_used)] // A test's helpers may fail loudly.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use virt_model::domain::Domain;
use virt_model::{Element, Mode};
use virt_xml::Document;

/// The cases' folder, or `None` with a word that the test was skipped.
fn cases() -> Option<PathBuf> {
    match std::env::var_os("VIRT_CONFORMANCE") {
        Some(dir) => Some(Path::new(&dir).join("cases")),
        None => {
            println!("skipped: VIRT_CONFORMANCE is not set");
            None
        }
    }
}

/// Name and text of every file of a suite with this ending. Recorded `*` stands for a value made up at random.
fn files(suite: &str, ending: &str) -> Vec<(String, String)> {
    let Some(dir) = cases() else { return Vec::new() };
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir.join(suite)).expect("the suite's folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_string();
        if let Some(case) = name.strip_suffix(ending) {
            let text = std::fs::read_to_string(&path).expect("a readable case");
            let text = text.replace("mac address=\"*\"", "mac address=\"52:54:00:00:00:01\"");
            out.push((
                format!("{suite}/{case}"),
                text.replace(">*<", ">c7a5fdbd-cdaf-4455-926a-d65c16db1809<"),
            ));
        }
    }
    out.sort();
    out
}

fn tree(text: &str) -> Element {
    let doc = Document::parse(text, Mode::CONFIG, virt_error::Domain::Domain).expect("well-formed");
    doc.root().to_element()
}

/// The first difference between two trees, order included.
fn difference(want: &Element, got: &Element, path: &str) -> Option<String> {
    let path = format!("{path}/{}", want.name);
    if want.name != got.name {
        return Some(format!("{path}: got <{}>", got.name));
    }
    if want.attrs != got.attrs {
        return Some(format!("{path}: want attributes {:?} got {:?}", want.attrs, got.attrs));
    }
    if want.text().trim() != got.text().trim() {
        return Some(format!("{path}: want text {:?} got {:?}", want.text(), got.text()));
    }
    let (a, b): (Vec<_>, Vec<_>) = (want.elements().collect(), got.elements().collect());
    for (x, y) in a.iter().zip(&b) {
        if let Some(d) = difference(x, y, &path) {
            return Some(d);
        }
    }
    let names = |v: &[&Element]| v.iter().map(|e| e.name.clone()).collect::<Vec<_>>().join(" ");
    (a.len() != b.len()).then(|| format!("{path}: want [{}] got [{}]", names(&a), names(&b)))
}

fn verdict(what: &str, total: usize, wrong: &[(String, String)]) {
    let mut text = format!("{what}: {} of {total}", total - wrong.len());
    for (case, why) in wrong.iter().take(60) {
        let _ = write!(text, "\n  {case}: {why}");
    }
    println!("{text}");
    assert!(wrong.is_empty(), "{text}");
}

/// What the reference wrote is read and written back unchanged.
#[test]
fn written_documents_come_back_equal() {
    let mut wrong = Vec::new();
    let mut total = 0;
    for (case, text) in files("domain", ".out.xml").into_iter().chain(files("domain-cross", ".out.xml")) {
        total += 1;
        match Domain::parse(&text, Mode::CONFIG) {
            Err(e) => wrong.push((case, format!("{e:?}"))),
            Ok(d) => {
                if let Some(d) = difference(&tree(&text), &tree(&d.format(Mode::CONFIG)), "") {
                    wrong.push((case, d));
                }
            }
        }
    }
    verdict("written documents", total, &wrong);
}

/// What the reference accepts is accepted, and reading what was written gives the same again.
#[test]
fn accepted_documents_are_stable() {
    let Some(dir) = cases() else { return };
    let mut wrong = Vec::new();
    let mut total = 0;
    for suite in ["domain", "argv", "domain-cross", "argv-cross"] {
        for (case, text) in files(suite, ".in.xml") {
            if dir.join(format!("{case}.err.json")).exists() {
                continue;
            }
            total += 1;
            let first = match Domain::parse(&text, Mode::CONFIG) {
                Ok(d) => d.format(Mode::CONFIG),
                Err(e) => {
                    wrong.push((case, format!("{e:?}")));
                    continue;
                }
            };
            match Domain::parse(&first, Mode::CONFIG) {
                Err(e) => wrong.push((case, format!("own output: {e:?}"))),
                Ok(d) => {
                    if let Some(d) = difference(&tree(&first), &tree(&d.format(Mode::CONFIG)), "") {
                        wrong.push((case, format!("not stable: {d}")));
                    }
                }
            }
        }
    }
    verdict("accepted documents", total, &wrong);
}

/// New identities that are always the same.
struct Fixed;

impl virt_model::domain::defaults::Fresh for Fixed {
    fn uuid(&mut self) -> virt_model::Uuid {
        virt_model::Uuid::from_u128(0xc7a5_fdbd_cdaf_4455_926a_d65c_16db_1809)
    }
    fn mac(&mut self) -> virt_model::Mac {
        virt_model::Mac([0x52, 0x54, 0, 0, 0, 1])
    }
}

fn complete(d: &mut Domain) -> virt_error::Result<()> {
    use virt_model::domain::defaults;
    defaults::guest(d, &mut Fixed)?;
    defaults::devices(d, &mut Fixed)?;
    defaults::controllers(d)
}

/// The defaults that no emulator decides are the reference's, part by part.
#[test]
fn defaults_are_the_references() {
    use virt_model::domain::address::Address;
    use virt_model::domain::disk::DiskBus;
    let Some(dir) = cases() else { return };
    let mut wrong = Vec::new();
    let mut total = 0;
    for (case, text) in files("domain", ".in.xml") {
        let Ok(out) = std::fs::read_to_string(dir.join(format!("{case}.out.xml"))) else { continue };
        let out = out
            .replace(">*<", ">c7a5fdbd-cdaf-4455-926a-d65c16db1809<")
            .replace("\"*\"", "\"52:54:00:00:00:01\"");
        // Paths the QEMU driver made up are taken out by the QEMU driver.
        if case.contains("remove-generated") || case.ends_with("channel-virtio-unix") {
            continue;
        }
        total += 1;
        let want = Domain::parse(&out, Mode::CONFIG).expect("a written document");
        let mut got = Domain::parse(&text, Mode::CONFIG).expect("an accepted document");
        if let Err(e) = complete(&mut got) {
            wrong.push((case, format!("{e:?}")));
            continue;
        }
        let mut again = got.clone();
        complete(&mut again).expect("a second time");
        if again != got {
            wrong.push((case.clone(), "completing twice changes the document".to_string()));
        }
        macro_rules! same {
            ($($part:expr, $what:literal);* $(;)?) => {$(
                let (w, g) = (#[allow(clippy::redundant_closure_call)] ($part)(&want), ($part)(&got));
                if w != g {
                    wrong.push((case.clone(), format!("{}: want {w:?} got {g:?}", $what)));
                }
            )*};
        }
        let drives = |d: &Domain| -> Vec<_> {
            let place = |a: &Option<Address>| a.clone().filter(|a| matches!(a, Address::Drive(_)));
            // What a target says but the reference never shows.
            let mut targets: Vec<_> = d.devices.disks.iter().map(|x| x.target.clone()).collect();
            targets.iter_mut().filter(|t| t.bus != Some(DiskBus::Usb)).for_each(|t| t.removable = None);
            d.devices
                .disks
                .iter()
                .zip(targets)
                .map(|(x, t)| (t, x.readonly, place(&x.info.address)))
                .collect()
        };
        same! {
            |d: &Domain| (d.memory.clone(), d.current_memory, d.max_memory.clone()), "memory";
            |d: &Domain| (d.vcpu.clone(), d.iothreads, d.iothreadids.clone(), d.numatune.clone()), "vcpus";
            |d: &Domain| d.clock.clone().map(|c| (c.offset, c.adjustment, c.basis)), "clock";
            |d: &Domain| (d.os.boots.clone(), d.on_poweroff, d.on_reboot, d.on_crash), "boot";
            |d: &Domain| d.seclabels.clone(), "seclabels";
            |d: &Domain| d.devices.serials.iter().map(|s| (s.backend.clone(), s.target.port)).collect::<Vec<_>>(), "serials";
            |d: &Domain| d.devices.consoles.clone(), "consoles";
            |d: &Domain| d.devices.parallels.clone(), "parallels";
            |d: &Domain| d.devices.graphics.clone(), "graphics";
            |d: &Domain| d.devices.channels.iter().map(|c| (c.backend.clone(), c.target.clone())).collect::<Vec<_>>(), "channels";
            drives, "disks";
        }
    }
    verdict("defaults", total, &wrong);
}

/// What the reference refuses is refused with its code, as far as that needs no emulator; nothing is refused with
/// another code.
#[test]
fn wrong_documents_are_refused_with_the_references_code() {
    let Some(dir) = cases() else { return };
    let mut wrong = Vec::new();
    let (mut total, mut refused) = (0, 0);
    for suite in ["domain", "domain-cross"] {
        for (case, text) in files(suite, ".in.xml") {
            let Ok(err) = std::fs::read_to_string(dir.join(format!("{case}.err.json"))) else { continue };
            total += 1;
            let number = |key: &str| -> i32 {
                let rest = err.split(&format!("\"{key}\": ")).nth(1).unwrap_or_default();
                rest.split([',', '}']).next().unwrap_or_default().trim().parse().unwrap_or(-1)
            };
            let done = Domain::parse(&text, Mode::CONFIG).and_then(|mut d| {
                complete(&mut d)?;
                d.validate()
            });
            match done {
                Err(e) if e.code() as i32 == number("code") => refused += 1,
                Err(e) => wrong.push((case, format!("{e:?} instead of {}", err.trim()))),
                // The emulator's part.
                Ok(()) if number("domain") == 10 => {}
                Ok(()) => println!("  accepted {case}: {}", err.trim()),
            }
        }
    }
    println!("refused without an emulator: {refused} of {total}");
    verdict("wrong documents", total, &wrong);
}

/// Snapshot, checkpoint and backup documents: what the reference writes comes back, what it accepts is accepted.
#[test]
fn documents_beside_a_guest_come_back_equal() {
    use virt_model::backup::Backup;
    use virt_model::snapshot::{Checkpoint, Snapshot};
    let Some(dir) = cases() else { return };
    let (mut wrong, mut total) = (Vec::new(), 0);
    for suite in ["snapshot-xml", "checkpoint-xml", "backup-xml"] {
        let again = |text: &str| match suite {
            "snapshot-xml" => Snapshot::parse(text, Mode::STATUS).map(|d| d.format(Mode::STATUS)),
            "checkpoint-xml" => Checkpoint::parse(text, Mode::STATUS).map(|d| d.format(Mode::STATUS)),
            _ => Backup::parse(text, Mode::STATUS).map(|d| d.format(Mode::STATUS)),
        };
        for (case, text) in files(suite, ".out.xml") {
            total += 1;
            match again(&text) {
                Err(e) => wrong.push((case, format!("{e:?}"))),
                Ok(got) => wrong.extend(difference(&tree(&text), &tree(&got), "").map(|d| (case, d))),
            }
        }
        for (case, text) in files(suite, ".in.xml") {
            if dir.join(format!("{case}.out.xml")).exists() {
                total += 1;
                wrong.extend(again(&text).err().map(|e| (case, format!("{e:?}"))));
            }
        }
    }
    verdict("documents beside a guest", total, &wrong);
}

//! CPUs against a running libvirt: models, baselines, comparisons, capabilities of emulators, CPUs of starts.
//!
//! Runs only when `VIRT_TEST_REFERENCE` names the reference's socket and `virsh` is installed; otherwise it says that it
//! was skipped. `VIRT_TEST_SEED` repeats a run, `VIRT_TEST_COUNT` sets how many CPUs are tried.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;
use std::sync::Arc;

use virt_host::node::Node;
use virtqemud::command;
use virtqemud::cpu::{baseline, features, table};
use virtqemud::document;
use virtqemud::emulator::Emulators;
use virtqemud::host::{Choice, HostFacts};

// Only its random numbers are wanted here.
#[allow(dead_code)]
use virt_testkit::vary::Random;

/// Share of random questions both must answer alike: CPUs of several vendors at once are not decided as the reference's.
const AGREE: f64 = 0.95;

struct Sides {
    uri: String,
    file: tempfile::NamedTempFile,
    emulators: Arc<Emulators>,
    facts: HostFacts,
    random: Random,
    rounds: u64,
}

impl Sides {
    fn new() -> Option<Self> {
        let Ok(socket) = std::env::var("VIRT_TEST_REFERENCE") else {
            eprintln!("skipped: VIRT_TEST_REFERENCE does not name a reference's socket");
            return None;
        };
        let number = |name: &str| std::env::var(name).ok().and_then(|t| t.parse::<u64>().ok());
        let seed = number("VIRT_TEST_SEED").unwrap_or(0x9e37_79b9);
        println!("VIRT_TEST_SEED={seed}");
        let emulators = Arc::new(Emulators::new(None));
        Some(Self {
            uri: format!("qemu+unix:///system?socket={socket}"),
            file: tempfile::NamedTempFile::new().unwrap(),
            facts: HostFacts::new(Node::real(), emulators.clone(), "/", None),
            emulators,
            random: Random(seed.max(1)),
            rounds: number("VIRT_TEST_COUNT").unwrap_or(60),
        })
    }

    /// What the reference says to a document.
    fn ask(&self, text: &str, command: &[&str]) -> Result<String, String> {
        std::fs::write(self.file.path(), text).unwrap();
        let path = self.file.path().display().to_string();
        let args = command.iter().map(|a| if *a == "FILE" { path.as_str() } else { a });
        let out = Command::new("virsh").args(["-q", "-c", &self.uri]).args(args).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
        if out.status.success() {
            return Ok(said(&out.stdout));
        }
        // The last line is the library's own word.
        let errors = said(&out.stderr);
        Err(errors.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string())
    }

    /// A host's CPU made up of a model and some features.
    fn host_cpu(&mut self) -> String {
        let models = table::all();
        let model = &models[self.random.below(models.len())];
        let vendor = match self.random.below(3) {
            0 => model.vendor.map(|v| format!("<vendor>{v}</vendor>")).unwrap_or_default(),
            _ => String::new(),
        };
        let features: String =
            self.some_features().iter().map(|f| format!("<feature name='{f}'/>")).collect();
        format!("<cpu><arch>x86_64</arch><model>{}</model>{vendor}{features}</cpu>", model.name)
    }

    /// A guest's CPU with policies.
    fn guest_cpu(&mut self) -> String {
        let matching = ["minimum", "exact", "strict"][self.random.below(3)];
        let check = ["none", "partial", "full"][self.random.below(3)];
        let policies = ["force", "require", "optional", "disable", "forbid"];
        let mut features = String::new();
        for name in self.some_features() {
            let policy = policies[self.random.below(policies.len())];
            features.push_str(&format!("<feature policy='{policy}' name='{name}'/>"));
        }
        if self.random.below(4) == 0 {
            return format!("<cpu mode='host-model' check='{check}'>{features}</cpu>");
        }
        let models = table::all();
        let name = models[self.random.below(models.len())].name;
        let fallback = ["allow", "forbid"][self.random.below(2)];
        format!(
            "<cpu mode='custom' match='{matching}' check='{check}'><model fallback='{fallback}'>{name}</model>{features}</cpu>"
        )
    }

    fn some_features(&mut self) -> Vec<&'static str> {
        let all: Vec<&'static str> =
            features::WORDS.iter().flat_map(|(_, bits)| bits.iter()).map(|(_, n)| *n).collect();
        let count = [0, 0, 1, 2, 6][self.random.below(5)];
        let mut out: Vec<&'static str> = (0..count).map(|_| all[self.random.below(all.len())]).collect();
        out.sort_unstable();
        out.dedup();
        out
    }
}

#[derive(Default)]
struct Tally {
    good: usize,
    total: usize,
}

impl Tally {
    fn judge(&mut self, question: &str, want: &Result<String, String>, got: &Result<String, String>) {
        self.total += 1;
        if want == got {
            self.good += 1;
        } else if self.total - self.good <= 10 {
            println!("{question}\n  reference {want:?}\n  ours      {got:?}");
        }
    }

    fn done(&self, share: f64) {
        println!("{} of {} alike", self.good, self.total);
        assert!(self.good as f64 >= share * self.total as f64, "only {} of {}", self.good, self.total);
    }
}

fn own(answer: virt_error::Result<String>) -> Result<String, String> {
    answer.map(|t| t.trim().to_string()).map_err(|e| e.message())
}

#[test]
fn every_model_has_the_references_features() {
    let Some(sides) = Sides::new() else { return };
    let mut tally = Tally::default();
    let names = sides.ask("", &["cpu-models", "x86_64"]);
    let ours: Vec<&str> = table::all().iter().map(|m| m.name).collect();
    assert_eq!(names.unwrap().lines().collect::<Vec<_>>(), ours);
    let ask = baseline::Ask { expand: true, migratable: false };
    for name in ours {
        let text = format!("<cpu><arch>x86_64</arch><model>{name}</model></cpu>");
        let want = sides.ask(&text, &["cpu-baseline", "FILE", "--features"]);
        tally.judge(name, &want, &own(sides.facts.baseline_cpu(&[text], None, ask)));
    }
    tally.done(1.0);
}

#[test]
fn emulators_offer_what_the_reference_says() {
    let Some(sides) = Sides::new() else { return };
    let mut tally = Tally::default();
    for arch in sides.emulators.architectures() {
        let Some(binary) = sides.emulators.binary_for(arch) else { continue };
        let path = binary.display().to_string();
        let want =
            sides.ask("", &["domcapabilities", "--virttype", "qemu", "--arch", arch, "--emulatorbin", &path]);
        let choice = Choice {
            emulator: Some(path),
            arch: Some(arch.to_string()),
            virt_type: Some("qemu".into()),
            ..Choice::default()
        };
        tally.judge(arch, &want, &own(sides.facts.domain_capabilities(&choice, false)));
    }
    tally.done(AGREE);
}

#[test]
fn baselines_and_comparisons_are_alike() {
    let Some(mut sides) = Sides::new() else { return };
    let mut tally = Tally::default();
    let qemu = Choice { virt_type: Some("qemu".into()), ..Choice::default() };
    for _ in 0..sides.rounds {
        let cpus: Vec<String> = (0..=sides.random.below(2)).map(|_| sides.host_cpu()).collect();
        let (text, ask) = (cpus.join("\n"), baseline::Ask::default());
        let want = sides.ask(&text, &["cpu-baseline", "FILE"]);
        tally.judge(&text, &want, &own(sides.facts.baseline_cpu(&cpus, None, ask)));
        let want = sides.ask(&text, &["hypervisor-cpu-baseline", "FILE", "--virttype", "qemu"]);
        tally.judge(&text, &want, &own(sides.facts.baseline_cpu(&cpus, Some(&qemu), ask)));
        let said = |cpu: &str, choice: Option<&Choice>| {
            sides.facts.compare_cpu(cpu, choice, true).map(|_| ()).map_err(|e| e.message())
        };
        let cpu = &cpus[0];
        let want = sides.ask(cpu, &["cpu-compare", "FILE", "--error"]).map(|_| ());
        tally.judge(cpu, &want.map(|()| String::new()), &said(cpu, None).map(|()| String::new()));
        let command = ["hypervisor-cpu-compare", "FILE", "--virttype", "qemu", "--error"];
        let want = sides.ask(cpu, &command).map(|_| ());
        tally.judge(cpu, &want.map(|()| String::new()), &said(cpu, Some(&qemu)).map(|()| String::new()));
    }
    tally.done(AGREE);
}

#[test]
fn starts_get_the_same_cpu() {
    let Some(mut sides) = Sides::new() else { return };
    let mut tally = Tally::default();
    for _ in 0..sides.rounds * 2 {
        let cpu = sides.guest_cpu();
        let text = format!(
            "<domain type='qemu'><name>virt-cpu-reference</name><memory unit='MiB'>16</memory>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os>{cpu}</domain>"
        );
        let line = |text: String| {
            let rest = text.split_once("-cpu ").map(|(_, r)| r).unwrap_or_default();
            rest.split_whitespace().next().unwrap_or_default().to_string()
        };
        let want = sides.ask(&text, &["domxml-to-native", "qemu-argv", "FILE"]).map(line);
        let got = document::read(&text, &sides.emulators).and_then(|(def, emulator)| {
            command::native(def, &emulator, sides.emulators.cpus(), command::Settings::default())
        });
        tally.judge(&cpu, &want, &got.map(|l| line(l.to_shell())).map_err(|e| e.message()));
    }
    tally.done(AGREE);
}

//! The bed's machine: started by the first test of a run that needs it, found by the others, gone a minute after the
//! last one. It belongs to no test's process: each runner starts a process for each test.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::payload;

/// From power on to the first test, on a machine that emulates its processors and has other work.
const BOOT: Duration = Duration::from_secs(240);

/// How long the machine waits for the next test, in seconds.
const IDLE: u32 = 60;

/// A connection to the machine; no other test has one meanwhile.
pub(super) struct Machine {
    port: BufReader<UnixStream>,
    dir: PathBuf,
    _lock: Flock<File>,
}

/// What a test in the machine did.
pub(super) struct Outcome {
    pub(super) code: i32,
    pub(super) output: String,
}

/// What this machine lacks for a bed.
pub(super) fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("root, to build its disk".to_owned());
    }
    let there = |tool: &str| {
        ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|dir| Path::new(dir).join(tool).exists())
    };
    let tools = ["mmdebstrap", "mke2fs", "qemu-system-x86_64", "make", "strip"];
    let lacking: Vec<_> = tools.into_iter().filter(|tool| !there(tool)).collect();
    (!lacking.is_empty()).then(|| format!("{} (tools/setup full)", lacking.join(", ")))
}

/// The machine of this run, booted if it is not there.
pub(super) fn get() -> Machine {
    let images = payload::repository().join("target/bed");
    fs::create_dir_all(&images).expect("target/bed");
    let lock = File::create(images.join("one-test")).expect("target/bed/one-test");
    let lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap_or_else(|(_, e)| panic!("flock: {e}"));
    let keep = std::env::var(super::KEEP_VARIABLE).ok().and_then(|s| s.parse::<u32>().ok());
    let run = match (keep, std::env::var("NEXTEST_RUN_ID")) {
        (Some(_), _) => "kept".to_owned(),
        (None, Ok(id)) => id,
        (None, Err(_)) => nix::unistd::getppid().to_string(),
    };
    let run: String = run.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let dir = std::env::temp_dir().join(format!("virt-bed.{run}.{:016x}", payload::key()));
    let socket = dir.join("port");
    if let Ok(stream) = UnixStream::connect(&socket) {
        return Machine::new(stream, dir, lock);
    }
    let _ = fs::remove_dir_all(&dir);
    let built = Command::new(payload::repository().join("tests/bed/build")).arg(&images).status();
    assert!(built.expect("tests/bed/build").success(), "the bed's disk cannot be built");
    start(&images, &dir, keep.unwrap_or(IDLE));
    let mut machine = None;
    crate::wait::until("the machine's port is there", || {
        machine = UnixStream::connect(&socket).ok();
        machine.is_some()
    });
    let mut machine = Machine::new(machine.expect("waited for"), dir, lock);
    machine.wait_until_up();
    machine
}

/// Starts QEMU as a process of its own; the last thing in it removes its folder.
fn start(images: &Path, dir: &Path, idle: u32) {
    fs::create_dir_all(dir).expect("the machine's folder");
    let disk = dir.join("payload.img");
    payload::make(&disk);
    let drive = |file: &Path, more: &str| format!("file={},format=raw,if=virtio,{more}", file.display());
    let mut qemu = Command::new("setsid");
    qemu.args(["--fork", "sh", "-c", "\"$@\"; rm -rf \"$0\""]).arg(dir);
    qemu.args(["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    // Emulated everywhere alike: not every host's KVM runs a Linux at full speed. It has SVM, so guests in the
    // machine may be of type kvm.
    qemu.args(["-machine", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "2560"]);
    qemu.arg("-kernel").arg(images.join("vmlinuz")).arg("-initrd").arg(images.join("initrd"));
    qemu.args(["-append", &format!("root=/dev/vda rw console=ttyS0 quiet panic=-1 bed.idle={idle}")]);
    qemu.args(["-drive", &drive(&images.join("root.img"), "snapshot=on")]);
    qemu.args(["-drive", &drive(&disk, "readonly=on")]);
    qemu.arg("-serial").arg(format!("file:{}", dir.join("console").display()));
    // A shell, for who wants to look.
    qemu.arg("-serial").arg(format!("unix:{},server=on,wait=off", dir.join("shell").display()));
    qemu.arg("-chardev").arg(format!("socket,id=bed,server=on,wait=off,path={}", dir.join("port").display()));
    qemu.args(["-device", "virtio-serial", "-device", "virtserialport,chardev=bed,name=bed"]);
    qemu.args(["-device", "virtio-rng-pci"]);
    let errors = File::create(dir.join("errors")).expect("a file for QEMU's errors");
    qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    let status = qemu.status().expect("setsid does not start");
    assert!(status.success(), "setsid: {status}");
}

impl Machine {
    fn new(stream: UnixStream, dir: PathBuf, lock: Flock<File>) -> Self {
        Self { port: BufReader::new(stream), dir, _lock: lock }
    }

    /// The next line from the machine.
    fn line(&mut self, end: Instant) -> Result<String, String> {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.port.get_ref().set_read_timeout(Some(left)).expect("a deadline");
        let mut line = Vec::new();
        match self.port.read_until(b'\n', &mut line) {
            Ok(0) => Err("it ended".to_owned()),
            Ok(_) => Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }

    fn wait_until_up(&mut self) {
        let end = Instant::now() + BOOT;
        loop {
            match self.line(end) {
                Ok(line) if line == "ready" => return,
                Ok(line) => println!("bed: {line}"),
                Err(e) => self.give_up(&format!("the machine did not boot: {e}")),
            }
        }
    }

    /// Runs the test `name` and waits for its end.
    pub(super) fn run(&mut self, name: &str, limit: u32) -> Outcome {
        let id = std::process::id();
        writeln!(self.port.get_ref(), "{id} {limit} {name}").expect("asking the machine");
        let end = Instant::now() + Duration::from_secs(u64::from(limit) + 60);
        let mut output = String::new();
        loop {
            match self.line(end) {
                Ok(line) => match line.strip_prefix(&format!("exit {id} ")) {
                    Some(code) => return Outcome { code: code.parse().unwrap_or(-1), output },
                    // What a test before this one left unread.
                    None if line.starts_with("exit ") => output.clear(),
                    None => {
                        output.push_str(
                            line.strip_prefix('|').map_or(&*line, |l| l.strip_prefix(' ').unwrap_or(l)),
                        );
                        output.push('\n');
                    }
                },
                Err(e) => self.give_up(&format!("{output}\nthe machine does not answer: {e}")),
            }
        }
    }

    fn give_up(&self, why: &str) -> ! {
        let tail = |name: &str| {
            let text = fs::read(self.dir.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&text[text.len().saturating_sub(4000)..]).into_owned()
        };
        panic!("{why}\n{}\n{}", tail("errors"), tail("console"));
    }
}

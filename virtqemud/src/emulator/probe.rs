//! Asks an emulator binary what it can do, over QMP on its own standard input and output.
//!
//! The binary runs with the `none` machine and stopped CPUs, so that no guest code is ever executed; every read has a
//! deadline, and the process is killed and reaped when anything goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use virt_error::{Code, Domain, Error, Result};

use super::{CpuModel, Emulator, Identity, Machine, Sev, arch_of_target};

/// How long one binary may take in all; a loaded host with a cold page cache needs a few seconds.
const DEADLINE: Duration = Duration::from_secs(30);
/// The largest answer accepted (the device tree of a big binary stays under 1 MiB).
const MAX_ANSWER: usize = 16 << 20;

/// Device types whose property lists decide what may be put on a command line.
const PROBED_DEVICES: &[&str] = &[
    "virtio-blk-pci",
    "virtio-scsi-pci",
    "virtio-net-pci",
    "virtio-gpu-pci",
    "virtio-balloon-pci",
    "virtio-serial-pci",
    "virtio-mem-pci",
    "virtio-iommu-pci",
    "virtio-sound-pci",
    "vhost-user-fs-pci",
    "scsi-hd",
    "ide-hd",
    "usb-storage",
    "usb-host",
    "qxl",
    "VGA",
    "intel-iommu",
    "pcie-root-port",
    "vfio-pci",
    "nvdimm",
    "ICH9-LPC",
    "PIIX4_PM",
    "i440FX-pcihost",
    "q35-pcihost",
    "tpm-tis",
];

/// Runs `path` and collects the facts. Blocking: call it from a thread that may wait.
pub(super) fn probe(path: &Path, identity: Identity) -> Result<Emulator> {
    let mut session = Session::start(path, "kvm:tcg")?;
    let facts = collect(&mut session, path, identity);
    session.finish();
    facts
}

fn collect(qmp: &mut Session, path: &Path, identity: Identity) -> Result<Emulator> {
    let version = qmp.execute("query-version", Value::Null)?;
    let number = |key: &str| version["qemu"][key].as_u64().unwrap_or(0) as u32;
    let target = qmp.execute("query-target", Value::Null)?;
    let target = target["arch"].as_str().unwrap_or_default().to_string();
    let kvm = qmp.execute("query-kvm", Value::Null)?;
    let machines = qmp.execute("query-machines", Value::Null)?;
    let cpus = qmp.execute("query-cpu-definitions", Value::Null).unwrap_or(Value::Null);
    let types = qmp.execute("qom-list-types", json!({"implements": "object"}))?;
    let types: BTreeSet<String> = types
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|t| t["name"].as_str())
        .map(str::to_string)
        .collect();
    let mut properties = BTreeMap::new();
    for device in PROBED_DEVICES.iter().filter(|d| types.contains(**d)) {
        let list =
            qmp.execute("device-list-properties", json!({ "typename": device })).unwrap_or(Value::Null);
        let names =
            list.as_array().into_iter().flatten().filter_map(|p| p["name"].as_str()).map(str::to_string);
        properties.insert((*device).to_string(), names.collect::<BTreeSet<_>>());
    }
    let options = qmp.execute("query-command-line-options", Value::Null).unwrap_or(Value::Null);
    let options =
        options.as_array().into_iter().flatten().filter_map(|o| o["option"].as_str()).map(str::to_string);
    // An error is the answer of hosts without it.
    let sev = qmp.execute("query-sev-capabilities", Value::Null).ok();
    let bits = |key: &str| sev.as_ref()?[key].as_u64().and_then(|n| u32::try_from(n).ok());
    let sev = bits("cbitpos").zip(bits("reduced-phys-bits"));
    let sev = sev.map(|(cbitpos, reduced_phys_bits)| Sev { cbitpos, reduced_phys_bits });
    Ok(Emulator {
        path: path.to_path_buf(),
        identity,
        version: (number("major"), number("minor"), number("micro")),
        package: version["package"].as_str().unwrap_or_default().to_string(),
        arch: arch_of_target(&target).to_string(),
        target,
        kvm: kvm["present"] == true && kvm["enabled"] == true,
        machines: machines.as_array().into_iter().flatten().filter_map(machine).collect(),
        cpus: cpus.as_array().into_iter().flatten().filter_map(cpu).collect(),
        options: options.collect(),
        types,
        sev,
        properties,
    })
}

fn machine(v: &Value) -> Option<Machine> {
    let flag = |key: &str| v[key].as_bool().unwrap_or(false);
    let text = |key: &str| v[key].as_str().map(str::to_string);
    Some(Machine {
        name: text("name")?,
        alias: text("alias"),
        default: flag("is-default"),
        cpu_max: v["cpu-max"].as_u64().unwrap_or(0) as u32,
        hotpluggable_cpus: flag("hotpluggable-cpus"),
        numa_mem: flag("numa-mem-supported"),
        default_cpu: text("default-cpu-type"),
        default_ram_id: text("default-ram-id"),
        deprecated: flag("deprecated"),
        acpi: flag("acpi"),
    })
}

fn cpu(v: &Value) -> Option<CpuModel> {
    let list = v["unavailable-features"].as_array();
    Some(CpuModel {
        name: v["name"].as_str()?.to_string(),
        type_name: v["typename"].as_str().unwrap_or_default().to_string(),
        alias_of: v["alias-of"].as_str().map(str::to_string),
        deprecated: v["deprecated"].as_bool().unwrap_or(false),
        blockers: list.map(|l| l.iter().filter_map(|f| f.as_str()).map(str::to_string).collect()),
    })
}

/// One run of the binary with QMP on its standard streams.
pub(crate) struct Session {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    buffer: Vec<u8>,
    end: Instant,
    path: String,
}

impl Session {
    /// Starts the binary with one accelerator, or a list of them to try in order ("kvm:tcg").
    pub(crate) fn start(path: &Path, accelerator: &str) -> Result<Self> {
        let shown = path.display().to_string();
        let mut child = Command::new(path)
            .args([
                "-S",
                "-no-user-config",
                "-nodefaults",
                "-display",
                "none",
                "-machine",
                &format!("none,accel={accelerator}"),
            ])
            .args(["-qmp", "stdio"])
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| Error::system(Domain::Qemu, format!("Cannot check QEMU binary {shown}"), e))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            let _ = child.kill();
            return Err(Error::internal(Domain::Qemu, format!("no pipe to '{shown}'")));
        };
        let end = Instant::now() + DEADLINE;
        let mut session = Self { child, input: Some(input), output, buffer: Vec::new(), end, path: shown };
        let greeting = session.read()?;
        if greeting.get("QMP").is_none() {
            return Err(session.broken("unexpected greeting"));
        }
        session.execute("qmp_capabilities", Value::Null)?;
        Ok(session)
    }

    /// Runs one command.
    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut line = if arguments.is_null() {
            json!({ "execute": command })
        } else {
            json!({ "execute": command, "arguments": arguments })
        }
        .to_string();
        line.push('\n');
        let written = self.input.as_mut().map(|i| i.write_all(line.as_bytes()));
        if !matches!(written, Some(Ok(()))) {
            return Err(self.broken("cannot write to the monitor"));
        }
        loop {
            let mut answer = self.read()?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                let text = error["desc"].as_str().unwrap_or("unknown error");
                return Err(Error::internal(
                    Domain::Qemu,
                    format!("unable to execute QEMU command '{command}': {text}"),
                ));
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        loop {
            if let Some(at) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                return serde_json::from_slice(&line)
                    .map_err(|e| self.broken("malformed answer").with_source(e));
            }
            let left = self.end.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut fds = [PollFd::new(&self.output, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Err(self.broken("no answer in time")),
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(self.broken("cannot wait for the monitor").with_source(e)),
                Ok(_) => {}
            }
            let mut chunk = [0u8; 65536];
            match self.output.read(&mut chunk) {
                Ok(0) => return Err(self.broken("the process ended")),
                Ok(n) if self.buffer.len() + n > MAX_ANSWER => {
                    return Err(self.broken(&format!("answer of {n} bytes")));
                }
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(e) => return Err(self.broken("cannot read the monitor").with_source(e)),
            }
        }
    }

    fn broken(&self, why: &str) -> Error {
        Error::new(
            Code::InternalError,
            Domain::Qemu,
            format!("Failed to probe QEMU binary with QMP: {}: {why}", self.path),
        )
    }

    /// Asks the binary to end; dropping the session makes sure of it.
    pub(crate) fn finish(&mut self) {
        let _ = self.execute("quit", Value::Null);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closing the input first lets a healthy process end by itself; kill covers the rest.
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

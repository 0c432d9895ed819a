//! The QEMU command line.
//!
//! [`build`] turns a prepared document (see [`crate::document::prepare_live`]) into the arguments of one QEMU process.
//! One file per device family; every function appends to the [`Builder`]'s line in the order QEMU must see things.

pub mod line;
pub mod props;

mod address;
mod audio;
mod audiodev;
mod blockdev;
mod boot;
mod chardev;
mod controller;
mod cpu;
mod devices;
mod disk;
mod filesystem;
mod graphics;
mod hostdev;
mod launch;
mod machine;
mod memory;
mod native;
mod net;
mod ports;
mod secret;
mod security;
mod video;

use serde_json::{Value, json};
use virt_error::Result;

use crate::document::types::{DeprecationBehavior, Domain};
use crate::emulator::Emulator;
pub use blockdev::{has_format_node, node_name};
use boot::BootOrder;
use controller::Buses;

pub use graphics::VNC_PORT_BASE;
pub use launch::{LaunchContext, Monitor, NetFds, Sealed, Settings, TlsSettings};
pub use line::CommandLine;
pub use native::native;
use props::Opts;

/// Everything one command line is made from, and the line so far.
struct Builder<'a> {
    def: &'a Domain,
    emulator: &'a Emulator,
    launch: &'a LaunchContext<'a>,
    line: CommandLine,
    buses: Buses,
    boot: BootOrder,
}

/// Builds the command line of a prepared guest.
///
/// # Errors
/// Code 67 for what this emulator cannot do, code 1 when something the line needs (a descriptor, a secret) is missing.
pub fn build(def: &Domain, emulator: &Emulator, launch: &LaunchContext<'_>) -> Result<CommandLine> {
    let program = def.devices.emulator.clone().unwrap_or_else(|| emulator.path.display().to_string());
    let line = CommandLine { program, args: Vec::with_capacity(96), env: launch.environment() };
    let mut builder =
        Builder { def, emulator, launch, line, buses: Buses::new(def), boot: BootOrder::new(def) };
    builder.run()?;
    let mut line = builder.line;
    zpci_devices(def, &mut line);
    override_devices(def, &mut line);
    for (name, value) in &def.qemu.env {
        line.env.push((name.clone(), value.clone().unwrap_or_default()));
    }
    Ok(line)
}

impl Builder<'_> {
    /// The whole line; the order is what QEMU and the reference need.
    fn run(&mut self) -> Result<()> {
        let def = self.def;
        let name =
            Opts::new("").with("guest", def.name.as_deref().unwrap_or_default()).with("debug-threads", "on");
        self.line.opts("-name", name);
        self.compat();
        self.line.flag("-S");
        self.master_key();
        self.pflash_nodes();
        self.machine_line()?;
        self.accel()?;
        self.cpu()?;
        self.loader();
        self.memory()?;
        let locked = def.memory_backing.locked;
        self.line.arg("-overcommit", format!("mem-lock={}", props::on_off(locked)));
        self.smp();
        self.iothreads();
        self.throttle_groups();
        self.numa()?;
        let uuid = def.uuid.map(|u| u.to_string()).unwrap_or_default();
        self.line.arg("-uuid", uuid);
        self.smbios()?;
        self.genid();
        self.no_display();
        self.line.flag("-no-user-config");
        self.line.flag("-nodefaults");
        self.monitor();
        self.clock();
        self.power();
        self.boot()?;
        self.iommus();
        self.global_controllers();
        self.controllers()?;
        self.memory_devices()?;
        self.hubs();
        self.ccid_controllers();
        self.disks()?;
        self.filesystems()?;
        self.interfaces()?;
        self.smartcards();
        self.serials();
        self.parallels();
        self.channels();
        self.consoles();
        self.tpms();
        self.inputs()?;
        self.audios();
        self.graphics()?;
        self.videos()?;
        self.sounds();
        self.watchdogs();
        self.redirdevs();
        self.hostdevs()?;
        self.memballoon();
        self.rngs()?;
        self.nvram_device();
        self.vmcoreinfo();
        self.launch_security();
        for arg in &def.qemu.args {
            self.line.args.push(arg.clone());
        }
        self.sandbox();
        if let Some(on) = def.features.async_teardown {
            self.line.arg("-run-with", format!("async-teardown={}", props::on_off(on)));
        }
        self.panics();
        self.shmems();
        self.vsock();
        self.cryptos();
        self.pstore();
        self.line.arg("-msg", "timestamp=on");
        Ok(())
    }

    /// What QEMU does about deprecated use.
    fn compat(&mut self) {
        let value = match self.def.qemu.deprecation {
            None | Some(DeprecationBehavior::None) => return,
            Some(DeprecationBehavior::Omit) => json!({"deprecated-output": "hide"}),
            Some(DeprecationBehavior::Reject) => {
                json!({"deprecated-output": "hide", "deprecated-input": "reject"})
            }
            Some(DeprecationBehavior::Crash) => {
                json!({"deprecated-output": "hide", "deprecated-input": "crash"})
            }
        };
        self.line.arg("-compat", value.to_string());
    }
}

/// On IBM Z a device of its own, before each PCI device, gives it its two numbers.
fn zpci_devices(def: &Domain, line: &mut CommandLine) {
    let numbers = crate::document::address::zpci_numbers(def);
    if numbers.is_empty() {
        return;
    }
    let args = std::mem::take(&mut line.args);
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.next() {
        if arg == "-device"
            && let Some(Ok(Value::Object(device))) = args.peek().map(|a| serde_json::from_str::<Value>(a))
            && let Some(alias) = device.get("id").and_then(Value::as_str)
            && let Some((_, uid, fid)) = numbers.iter().find(|n| n.0 == alias)
        {
            line.device(
                props::Props::driver("zpci")
                    .with("uid", *uid)
                    .with("fid", *fid)
                    .with("target", alias)
                    .with("id", format!("zpci{uid}")),
            );
        }
        line.args.push(arg);
    }
}

/// Properties the document sets over our own, by alias.
fn override_devices(def: &Domain, line: &mut CommandLine) {
    use crate::document::types::PropertyKind;
    if def.qemu.overrides.is_empty() {
        return;
    }
    let mut expect = false;
    for arg in &mut line.args {
        let is_device = std::mem::replace(&mut expect, arg == "-device");
        if !is_device {
            continue;
        }
        let Ok(Value::Object(mut object)) = serde_json::from_str::<Value>(arg) else { continue };
        let alias = object.get("id").and_then(Value::as_str).map(str::to_string);
        let Some(found) = def.qemu.overrides.iter().find(|o| Some(&o.alias) == alias.as_ref()) else {
            continue;
        };
        for (name, kind, value) in &found.properties {
            let text = value.clone().unwrap_or_default();
            let value = match kind {
                PropertyKind::Remove => {
                    object.shift_remove(name);
                    continue;
                }
                PropertyKind::String => Value::from(text),
                PropertyKind::Bool => Value::from(text == "true"),
                PropertyKind::Unsigned => Value::from(text.parse::<u64>().unwrap_or(0)),
                PropertyKind::Signed => Value::from(text.parse::<i64>().unwrap_or(0)),
            };
            object.insert(name.clone(), value);
        }
        *arg = Value::Object(object).to_string();
    }
}

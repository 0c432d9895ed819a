//! The commands we use, with the part of their answers that we read. Names and members are QEMU's (interop/qmp-ref).

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// A command with a typed answer. The value itself is serialised as the command's arguments.
pub trait Command: Serialize {
    /// QEMU's name of the command.
    const NAME: &'static str;
    /// What QEMU returns.
    type Answer: DeserializeOwned;
}

macro_rules! commands {
    ($($(#[$doc:meta])* $type:ident $({ $($(#[$field_doc:meta])* $field:ident: $ty:ty),* $(,)? })? = $name:literal -> $answer:ty;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Serialize)]
            #[serde(rename_all = "kebab-case")]
            pub struct $type { $($($(#[$field_doc])* pub $field: $ty),*)? }

            impl Command for $type {
                const NAME: &'static str = $name;
                type Answer = $answer;
            }
        )*
    };
}

commands! {
    /// Leaves negotiation mode.
    QmpCapabilities = "qmp_capabilities" -> IgnoredAny;
    /// Whether the guest's processors run.
    QueryStatus = "query-status" -> Status;
    /// Processors with their threads.
    QueryCpusFast = "query-cpus-fast" -> Vec<Cpu>;
    /// Character devices with the paths QEMU gave them.
    QueryChardev = "query-chardev" -> Vec<Chardev>;
    /// I/O threads with their threads.
    QueryIothreads = "query-iothreads" -> Vec<Iothread>;
    /// The balloon's actual size.
    QueryBalloon = "query-balloon" -> Balloon;
    /// Starts the processors.
    Cont = "cont" -> IgnoredAny;
    /// Stops the processors.
    Stop = "stop" -> IgnoredAny;
    /// The reset button.
    SystemReset = "system_reset" -> IgnoredAny;
    /// The power button.
    SystemPowerdown = "system_powerdown" -> IgnoredAny;
    /// Wakes a guest suspended to memory.
    SystemWakeup = "system_wakeup" -> IgnoredAny;
    /// Ends QEMU.
    Quit = "quit" -> IgnoredAny;
    /// A non-maskable interrupt for all processors.
    InjectNmi = "inject-nmi" -> IgnoredAny;
    /// A command of the human monitor; answers its output.
    HumanMonitorCommand {
        /// The command with its arguments.
        command_line: String,
    } = "human-monitor-command" -> String;
    /// Presses keys together.
    SendKey {
        /// The keys, by number.
        keys: Vec<Key>,
        /// Milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        hold_time: Option<u32>,
    } = "send-key" -> IgnoredAny;
    /// Writes a picture of a screen into a file.
    Screendump {
        /// The file, as QEMU sees it.
        filename: String,
        /// Id of the display device; unset for the first.
        #[serde(skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// Which of the device's heads.
        #[serde(skip_serializing_if = "Option::is_none")]
        head: Option<u32>,
        /// "png" or "ppm"; an emulator may be built without the first.
        format: &'static str,
    } = "screendump" -> IgnoredAny;
    /// Sets the balloon's target, in bytes.
    SetBalloon {
        /// Bytes.
        value: u64,
    } = "balloon" -> IgnoredAny;
    /// Names a descriptor that travels with the command.
    Getfd {
        /// The name.
        fdname: String,
    } = "getfd" -> IgnoredAny;
    /// Drops a named descriptor.
    Closefd {
        /// The name.
        fdname: String,
    } = "closefd" -> IgnoredAny;
    /// What QEMU does when a guest ends, resets or crashes.
    SetAction {
        /// "reset" or "shutdown".
        #[serde(skip_serializing_if = "Option::is_none")]
        reboot: Option<String>,
        /// "poweroff" or "pause".
        #[serde(skip_serializing_if = "Option::is_none")]
        shutdown: Option<String>,
        /// "pause", "shutdown", "exit-failure" or "none".
        #[serde(skip_serializing_if = "Option::is_none")]
        panic: Option<String>,
    } = "set-action" -> IgnoredAny;
    /// Switches capabilities of the migration code; libvirt switches its events on.
    MigrateSetCapabilities {
        /// Name and wanted state.
        capabilities: Vec<MigrationCapability>,
    } = "migrate-set-capabilities" -> IgnoredAny;
}

/// Answer of [`QueryStatus`].
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// True when processors run.
    pub running: bool,
    /// QEMU's run state: "running", "paused", "prelaunch", "shutdown" ...
    pub status: String,
}

/// One row of [`QueryCpusFast`].
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cpu {
    /// Number of the processor.
    pub cpu_index: u32,
    /// Its thread on the host.
    pub thread_id: i32,
    /// Its place in QEMU's object tree.
    #[serde(default)]
    pub qom_path: String,
}

/// One row of [`QueryChardev`].
#[derive(Debug, Clone, Deserialize)]
pub struct Chardev {
    /// Id of the character device.
    pub label: String,
    /// "pty:/dev/pts/3", "unix:..." and so on.
    pub filename: String,
    /// Whether a frontend is open (an agent listens, a console is used).
    #[serde(rename = "frontend-open", default)]
    pub frontend_open: bool,
}

/// One row of [`QueryIothreads`].
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Iothread {
    /// Its id.
    pub id: String,
    /// Its thread on the host.
    pub thread_id: i32,
}

/// Answer of [`QueryBalloon`].
#[derive(Debug, Clone, Deserialize)]
pub struct Balloon {
    /// Bytes the guest has.
    pub actual: u64,
}

/// One key of [`SendKey`].
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", content = "data", rename_all = "lowercase")]
pub enum Key {
    /// A key by QEMU's number.
    Number(u32),
}

/// One row of [`MigrateSetCapabilities`].
#[derive(Debug, Clone, Serialize)]
pub struct MigrationCapability {
    /// "events", ...
    pub capability: String,
    /// Wanted state.
    pub state: bool,
}

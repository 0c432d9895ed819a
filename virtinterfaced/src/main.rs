//! The host interface daemon.

use std::process::ExitCode;

use virt_daemon::Daemon;

fn main() -> ExitCode {
    Daemon::new("virtinterfaced", "Manages the host's network interfaces")
        .locks(&["interface/driver.pid"])
        .run(virtinterfaced::serve::start)
}

//! The virtual network daemon.

use std::process::ExitCode;

use virt_daemon::Daemon;

fn main() -> ExitCode {
    Daemon::new("virtnetworkd", "Manages virtual networks")
        .locks(&["network/driver.pid"])
        .run(virtnetworkd::serve::start)
}

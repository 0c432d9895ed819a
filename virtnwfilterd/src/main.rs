//! The network filter daemon.

use std::process::ExitCode;

use virt_daemon::Daemon;

fn main() -> ExitCode {
    Daemon::new("virtnwfilterd", "Manages network filters")
        .locks(&["nwfilter/driver.pid"])
        .run(virtnwfilterd::serve::start)
}

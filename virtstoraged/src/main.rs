//! The storage daemon.

use std::process::ExitCode;

use virt_daemon::Daemon;

fn main() -> ExitCode {
    Daemon::new("virtstoraged", "Manages storage pools and volumes")
        .locks(&["storage/driver.pid"])
        .run(virtstoraged::serve::start)
}

//! The secrets daemon.

use std::process::ExitCode;

use virt_daemon::Daemon;

fn main() -> ExitCode {
    Daemon::new("virtsecretd", "Keeps secrets for guests and storage pools")
        .locks(&["secrets/driver.pid"])
        .hidden()
        .run(virtsecretd::serve::start)
}

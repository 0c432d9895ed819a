//! Entry point of virtproxyd.

use std::process::ExitCode;

use virt_daemon::Daemon;

fn main() -> ExitCode {
    Daemon::new("virtproxyd", "speaks libvirt's wire protocol and routes each call to the right daemon")
        .hidden()
        .run(virtproxyd::start)
}

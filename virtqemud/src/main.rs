//! The QEMU driver daemon.

use std::process::ExitCode;

use virt_daemon::Daemon;

fn main() -> ExitCode {
    Daemon::new("virtqemud", "Manages QEMU guests")
        .locks(&["qemu/driver.pid"])
        .companions(&["virtnetworkd", "virtsecretd", "virtstoraged"])
        .run(virtqemud::serve::start)
}

//! Starts one process for a daemon and ends. See the library's documentation for the dialog.

use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// Above the numbers that guests ask for, below the usual limit of 1024.
const SOCKET: i32 = 900;

fn main() -> ExitCode {
    virt_launch::server::close_inherited();
    // Standard input is the daemon's socket; keep an own descriptor of it that no program inherits.
    let served = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), SOCKET)
        .map_err(std::io::Error::from)
        .map(UnixStream::from)
        .and_then(|socket| virt_launch::server::serve(&socket));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

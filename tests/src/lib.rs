//! What the whole-host tests in `tests/host` share: how much to do, and where recordings of the reference are.

use std::path::PathBuf;

/// Picks a count by `TEST_LEVEL`: the full one for `full`, else the one that fits continuous integration.
#[must_use]
pub fn level<T>(ci: T, full: T) -> T {
    if std::env::var("TEST_LEVEL").is_ok_and(|l| l == "full") { full } else { ci }
}

/// The address of a running reference; `None`, and a line that says so, when `VIRT_TEST_REFERENCE` is unset.
#[must_use]
pub fn reference() -> Option<String> {
    let socket = std::env::var("VIRT_TEST_REFERENCE").ok().filter(|s| !s.is_empty());
    if socket.is_none() {
        println!("skipped: VIRT_TEST_REFERENCE does not name a reference's socket");
    }
    socket.map(|socket| format!("qemu+unix:///system?socket={socket}"))
}

/// The folder with recordings of the reference; `None`, and a line that says so, when `VIRT_CONFORMANCE` is unset.
#[must_use]
pub fn recordings() -> Option<PathBuf> {
    let dir = std::env::var_os("VIRT_CONFORMANCE").filter(|d| !d.is_empty()).map(PathBuf::from);
    if dir.is_none() {
        println!("skipped: VIRT_CONFORMANCE does not name the folder with the reference's recordings");
    }
    dir
}

//! The bed: a small Debian machine under QEMU, for tests that need a kernel with modules, a real systemd and whole control
//! groups. Our daemons are installed in it as `make install` does it and called through libvirt's own socket.
//!
//! A test is one function that is run twice. [`inside`], called by the test outside, has the machine booted (once for
//! all tests of a run), sends the test's name in and hands on what comes out; the same program, started in there, calls
//! the closure. So a test's commands, waits and checks are local to where the daemons are.
//!
//! ```text
//! test outside -- inside(f) -- machine::get (boots, or finds the one of this run) -- "run 7 300 storage::logical"
//!                                                                                       | virtio port
//! test result <--- "exit 7 0", output <--- the guest's loop (tests/bed/inside) --- /bed/test --exact storage::logical
//!                                                                                       | inside(f) calls f
//! ```

mod machine;
mod payload;

use std::process::{Command, Stdio};

use crate::host::{Host, Run};

/// Set in the machine: the test is to do its work.
pub const INSIDE_VARIABLE: &str = "VIRT_BED_INSIDE";

/// Seconds for which a machine waits for the next run of tests instead of ending with this one.
pub const KEEP_VARIABLE: &str = "VIRT_BED_KEEP";

/// How long a test in the machine may take, in seconds.
const LIMIT: u32 = 240;

/// Runs `test` in the machine. Outside of it, hands on its output and fails as it does. Says that it is skipped where
/// there can be no machine.
///
/// # Panics
/// When the test in the machine fails, or the machine does not boot.
pub fn inside<F: FnOnce(&Host)>(test: F) {
    if std::env::var_os(INSIDE_VARIABLE).is_some() {
        return test(&Host::start());
    }
    if let Some(missing) = machine::missing() {
        println!("skipped: the bed needs {missing}");
        return;
    }
    // A closure's type is named after the function it is in: CRATE::MODULE::TEST::{{closure}}.
    let path = std::any::type_name::<F>();
    let name = path.split_once("::").map_or(path, |(_, rest)| rest);
    let name = name.trim_end_matches("::{{closure}}");
    let outcome = machine::get().run(name, LIMIT);
    print!("{}", outcome.output);
    assert!(outcome.output.contains("1 passed"), "{name} in the bed: exit {}", outcome.code);
}

/// Runs a piece of shell; in the machine, as root.
#[must_use]
pub fn try_sh(script: &str) -> Run {
    bash("-eu", script)
}

/// Runs a piece of shell with `options`.
fn bash(options: &str, script: &str) -> Run {
    let output = Command::new("timeout")
        .args(["120", "bash", options, "-o", "pipefail", "-c", script])
        .stdin(Stdio::null())
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap_or_else(|e| panic!("bash: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Run {
        command: script.to_owned(),
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// Like [`try_sh`] for what must succeed; returns what was printed.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn sh(script: &str) -> String {
    let run = try_sh(script);
    assert!(run.ok(), "{run}");
    run.out
}

/// A piece of shell that is run at the end of a test, also of a failing one: what a test made of the machine that the
/// server's own clean-up does not know.
#[derive(Debug)]
pub struct AtEnd(String);

impl AtEnd {
    /// Keeps `script` for the end.
    #[must_use]
    pub fn sh(script: impl Into<String>) -> Self {
        Self(script.into())
    }

    /// The script, which is not run then: for another that runs it in an order of its own.
    #[must_use]
    pub fn keep(mut self) -> String {
        std::mem::take(&mut self.0)
    }
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        // Each line on its own: a test that failed half way left part of it only.
        let run = bash("-u", &self.0);
        if !run.err.is_empty() {
            println!("at the end: {}", run.err);
        }
    }
}

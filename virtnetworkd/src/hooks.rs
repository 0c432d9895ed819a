//! The administrator's own program beside networks: `/etc/libvirt/hooks/network NAME OPERATION SUBOPERATION -`, with
//! the network's document on its standard input.
//!
//! ```text
//!   start begin (may refuse) --> started begin --> port-created begin, port-deleted begin, updated begin --> stopped end
//! ```

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use virt_error::{Code, Domain, Error, Result};
use virt_model::Mode;
use virt_model::network::Network;
use virt_model::network::port::NetworkPort;

/// How long the program may take.
const WAIT: Duration = Duration::from_secs(60);
/// Of its words, this much is told.
const WORDS: usize = 1024;

/// When the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before a network starts; a refusal keeps it from starting.
    Start,
    /// It has started.
    Started,
    /// It has stopped.
    Stopped,
    /// A guest's card takes a place; a refusal keeps it from taking it.
    PortCreated,
    /// A guest's card gave its place back.
    PortDeleted,
    /// The running network was changed.
    Updated,
}

impl Moment {
    fn words(self) -> [&'static str; 2] {
        match self {
            Self::Start => ["start", "begin"],
            Self::Started => ["started", "begin"],
            Self::Stopped => ["stopped", "end"],
            Self::PortCreated => ["port-created", "begin"],
            Self::PortDeleted => ["port-deleted", "begin"],
            Self::Updated => ["updated", "begin"],
        }
    }
}

fn input(net: &Network, port: Option<&NetworkPort>) -> String {
    let indent = |text: String| text.lines().map(|l| format!("  {l}\n")).collect::<String>();
    let port = port.map(|p| indent(p.format())).unwrap_or_default();
    format!("<hookData>\n{}{port}</hookData>", indent(net.format(Mode::LIVE)))
}

/// Runs the program, if there is one.
///
/// # Errors
/// Code 70 with its words when it ends with anything but 0.
pub async fn run(program: &Path, moment: Moment, net: &Network, port: Option<&NetworkPort>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let executable =
        std::fs::metadata(program).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if !executable {
        return Ok(());
    }
    let [operation, sub] = moment.words();
    let refused = |what: String| {
        let text = format!(
            "Child process (LC_ALL=C {} {} {operation} {sub} -) {what}",
            program.display(),
            net.name()
        );
        Error::new(Code::HookScriptFailed, Domain::Hook, text)
    };
    let mut child = Command::new(program)
        .args([net.name(), operation, sub, "-"])
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| refused(format!("cannot be run: {e}")))?;
    let stdin = child.stdin.take();
    let text = input(net, port);
    let talk = async {
        if let Some(mut stdin) = stdin {
            // A program that does not care for its input is no failure.
            let _ = stdin.write_all(text.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let done = tokio::time::timeout(WAIT, talk).await;
    let done = done.map_err(|_| refused("did not end in time".into()))?;
    let done = done.map_err(|e| refused(format!("cannot be waited for: {e}")))?;
    if done.status.success() {
        return Ok(());
    }
    let said = done.stderr.get(..WORDS).unwrap_or(&done.stderr);
    let said = String::from_utf8_lossy(said).trim().to_string();
    let how = done
        .status
        .code()
        .map_or("unexpected fatal signal".into(), |c| format!("unexpected exit status {c}"));
    Err(refused(if said.is_empty() { how } else { format!("{how}: {said}") }))
}

/// As [`run`], where nothing can be refused any more: a failure is logged.
pub async fn tell(program: &Path, moment: Moment, net: &Network, port: Option<&NetworkPort>) {
    if let Err(error) = run(program, moment, net, port).await {
        tracing::warn!(%error, network = net.name(), "the network hook");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(dir: &Path, text: &str) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join("network");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn the_program_is_told_and_may_refuse() {
        let dir = tempfile::tempdir().unwrap();
        let net = Network::parse("<network><name>lan</name></network>", Mode::CONFIG).unwrap();
        run(&dir.path().join("none"), Moment::Start, &net, None).await.unwrap();
        let out = dir.path().join("out");
        let path = program(dir.path(), &format!("echo \"$@\" >{0}; cat >>{0}", out.display()));
        run(&path, Moment::Started, &net, None).await.unwrap();
        let told = std::fs::read_to_string(&out).unwrap();
        assert!(told.starts_with("lan started begin -\n<hookData>\n  <network>\n"), "{told}");
        assert!(told.ends_with("  </network>\n</hookData>"), "{told}");
        // As the published page names them.
        assert_eq!(Moment::PortDeleted.words(), ["port-deleted", "begin"]);
        assert_eq!(Moment::Stopped.words(), ["stopped", "end"]);
        let path = program(dir.path(), "echo not today >&2; exit 3");
        let error = run(&path, Moment::Start, &net, None).await.unwrap_err();
        assert!(
            error.message().ends_with("lan start begin -) unexpected exit status 3: not today"),
            "{error}"
        );
    }
}

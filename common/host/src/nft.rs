//! nftables: documents in nft's JSON form, put into force as a whole or not at all.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use virt_error::{Domain, Error, Result};

/// The longest listing that is read.
const LARGEST: u64 = 64 * 1024 * 1024;
/// How long a change of rules may take.
const WAIT: Duration = Duration::from_secs(20);

/// Puts a document into force: all its commands, or none of them.
///
/// # Errors
/// Code 1 with nft's words, code 38 when it cannot be run.
pub async fn apply(document: &Value) -> Result<()> {
    match run(&["-j", "-f", "-"], document).await? {
        None => Ok(()),
        Some(said) => {
            Err(Error::internal(Domain::Firewall, format!("Failed to apply firewall rules: {said}")))
        }
    }
}

/// Whether the kernel would take a document; nothing is changed.
///
/// # Errors
/// Code 38 when nft cannot be run.
pub async fn would_apply(document: &Value) -> Result<bool> {
    Ok(run(&["-c", "-j", "-f", "-"], document).await?.is_none())
}

/// All rules of the host, in nft's JSON form.
///
/// # Errors
/// Code 1 with nft's words, code 38 when it cannot be run.
pub async fn list() -> Result<Value> {
    let failed = |e| Error::system(Domain::Firewall, "cannot run nft", e);
    let mut command = Command::new("nft");
    command.args(["-j", "list", "ruleset"]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let stdout = child.stdout.take();
    let work = async {
        let mut text = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(LARGEST).read_to_end(&mut text).await?;
        }
        Ok(text)
    };
    let late = |_| Error::internal(Domain::Firewall, "nft did not end in time");
    let text = tokio::time::timeout(WAIT, work).await.map_err(late)?.map_err(failed)?;
    let odd = |e| Error::internal(Domain::Firewall, format!("cannot read what nft lists: {e}"));
    serde_json::from_slice(&text).map_err(odd)
}

/// What nft says against a document, if anything.
async fn run(args: &[&str], document: &Value) -> Result<Option<String>> {
    let failed = |e| Error::system(Domain::Firewall, "cannot run nft", e);
    let mut command = Command::new("nft");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let mut child = command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let text = document.to_string();
    let work = async {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let done = tokio::time::timeout(WAIT, work).await;
    let done =
        done.map_err(|_| Error::internal(Domain::Firewall, "nft did not end in time"))?.map_err(failed)?;
    let said = || String::from_utf8_lossy(&done.stderr).trim().to_string();
    Ok((!done.status.success()).then(said))
}

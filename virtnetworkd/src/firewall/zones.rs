//! Zones of firewalld: each bridge of a network is in one, or firewalld drops what guests ask of the host.
//!
//! firewalld is spoken to by its own command: it is a matter of one call a network, and only where firewalld runs. It
//! forgets interfaces when it is told to reload; its rules are other ones then, which the keeper sees.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use virt_error::{Domain, Error, Result};
use virt_model::network::Network;

use crate::driver::Driver;

/// Where packages put the command.
pub const PROGRAM: &str = "/usr/bin/firewall-cmd";
/// The zone of bridges whose networks name none, where the host has it.
const USUAL: &str = "libvirt";
/// How long one command may take: it is a Python program that waits for another.
const WAIT: Duration = Duration::from_secs(20);
/// Of its words, this much is told.
const WORDS: usize = 1024;

/// What the command said: its output, or its complaint.
async fn ask(program: &Path, args: &[&str]) -> Result<Result<String, String>> {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let done = tokio::time::timeout(WAIT, command.output()).await;
    let late = |_| Error::internal(Domain::Firewall, "firewalld did not answer in time");
    let failed = |e| Error::system(Domain::Firewall, format!("cannot run {}", program.display()), e);
    let done = done.map_err(late)?.map_err(failed)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..WORDS).unwrap_or(bytes)).trim().to_string();
    Ok(if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) })
}

/// Whether firewalld runs.
async fn runs(program: &Path) -> Result<bool> {
    Ok(program.exists() && ask(program, &["--state"]).await?.is_ok())
}

/// Puts the bridge of a network that starts into its zone.
///
/// # Errors
/// Code 1 when the document names a zone that there is none of, or firewalld does not run.
pub async fn join(program: &Path, net: &Network) -> Result<()> {
    let (wanted, name) = (net.bridge.zone.as_deref(), net.name());
    if !runs(program).await? {
        return match wanted {
            None => Ok(()),
            Some(zone) => {
                let text = format!("zone {zone} requested for network {name} but firewalld is not active");
                Err(Error::internal(Domain::None, text))
            }
        };
    }
    put(program, net).await
}

async fn put(program: &Path, net: &Network) -> Result<()> {
    let bridge = format!("--change-interface={}", net.bridge.name.as_deref().unwrap_or_default());
    let wanted = net.bridge.zone.as_deref();
    if wanted.is_none() {
        let known = ask(program, &["--get-zones"]).await?.unwrap_or_default();
        if !known.split_whitespace().any(|zone| zone == USUAL) {
            return Ok(());
        }
    }
    let zone = format!("--zone={}", wanted.unwrap_or(USUAL));
    ask(program, &[&zone, &bridge]).await?.map(drop).map_err(|said| Error::internal(Domain::None, said))
}

/// Puts bridges of running networks back into their zones after firewalld may have forgotten them. What fails is logged.
pub async fn rejoin(driver: &Driver) {
    let program = &driver.folders.firewalld;
    if !runs(program).await.unwrap_or(false) {
        return;
    }
    for network in driver.networks.list().iter() {
        let published = network.published();
        let Some(live) = published.value.live.as_ref().filter(|l| l.owns_bridge()) else { continue };
        if let Err(error) = put(program, live).await {
            tracing::warn!(%error, network = live.name(), "the zone of a network's bridge");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_model::Mode;

    fn net(zone: &str) -> Network {
        let text = format!("<network><name>n</name><bridge name='vzt0'{zone}/></network>");
        Network::parse(&text, Mode::CONFIG).unwrap()
    }

    /// A firewalld that knows these zones, and what it was asked.
    fn fake(dir: &Path, zones: &str) -> std::path::PathBuf {
        let path = dir.join("firewall-cmd");
        let text = format!(
            "#!/bin/sh\necho \"$@\" >>{0}/asked\ncase $1 in --state) exit 0;; --get-zones) echo '{zones}';; \
             --zone=nope) echo 'Error: INVALID_ZONE: nope' >&2; exit 112;; esac\n",
            dir.display()
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_bridge_joins_its_zone() {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none");
        join(&none, &net("")).await.unwrap();
        let text = join(&none, &net(" zone='lab'")).await.unwrap_err().message();
        assert_eq!(text, "internal error: zone lab requested for network n but firewalld is not active");
        let program = fake(dir.path(), "public trusted libvirt");
        let asked = || {
            let file = dir.path().join("asked");
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::remove_file(&file).unwrap();
            text.lines().last().unwrap_or_default().to_string()
        };
        join(&program, &net(" zone='lab'")).await.unwrap();
        assert_eq!(asked(), "--zone=lab --change-interface=vzt0");
        join(&program, &net("")).await.unwrap();
        assert_eq!(asked(), "--zone=libvirt --change-interface=vzt0");
        let text = join(&program, &net(" zone='nope'")).await.unwrap_err().message();
        assert!(text.ends_with("INVALID_ZONE: nope"), "{text}");
        let bare = fake(dir.path(), "public");
        asked();
        join(&bare, &net("")).await.unwrap();
        assert_eq!(asked(), "--get-zones");
    }
}

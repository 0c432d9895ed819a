//! The host's own tool for its interfaces: where its files are, how it is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use virt_error::{Domain, Error, Result};
use virt_host::link;
use virt_model::interface::Interface;
use virt_object::blocking;
use virt_object::store::write_whole;

use crate::{ifupdown, kernel, networkd};

/// How long a tool may take; a DHCP server may be slow.
const WAIT: Duration = Duration::from_secs(60);
/// How long systemd-networkd may take to make an interface.
const MAKING: Duration = Duration::from_secs(10);
/// The mode of files that tools without rights read too.
const MODE: u32 = 0o644;

/// Which tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// systemd-networkd, which reads its files when told.
    Networkd,
    /// ifupdown.
    Ifupdown,
    /// None that runs: files are written for systemd-networkd, the kernel is told by us.
    Kernel,
}

/// The tool and its folder.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Which.
    pub tool: Tool,
    folder: PathBuf,
}

impl Backend {
    /// The one of the host whose configuration is below `etc` (/etc). Under another root no tool runs.
    pub fn find(etc: &Path) -> Self {
        let host = etc == Path::new("/etc");
        let folder = etc.join("systemd/network");
        if host && Path::new("/run/systemd/netif/links").exists() {
            return Self { tool: Tool::Networkd, folder };
        }
        if host && Path::new("/usr/sbin/ifup").exists() && Path::new("/etc/network/interfaces").exists() {
            return Self { tool: Tool::Ifupdown, folder: etc.join("network/interfaces.d") };
        }
        Self { tool: Tool::Kernel, folder }
    }

    /// Makes the tool's files what the definitions say: new ones written, old ones of ours removed, others not touched.
    /// What is new or changed does not run yet: the tool hears of it when it is brought up.
    ///
    /// # Errors
    /// Code 38 when a file cannot be written, code 1 with the tool's words.
    pub async fn write(&self, definitions: Vec<Interface>) -> Result<()> {
        let (files, prefix) = match self.tool {
            Tool::Ifupdown => (ifupdown::files(definitions.iter()), ifupdown::PREFIX),
            Tool::Networkd | Tool::Kernel => (networkd::files(definitions.iter()), networkd::PREFIX),
        };
        let folder = self.folder.clone();
        let gone = blocking::run(move || put(&folder, prefix, &files)).await?;
        match self.tool {
            Tool::Networkd if gone => run("networkctl", &["reload"]).await,
            Tool::Networkd | Tool::Ifupdown | Tool::Kernel => Ok(()),
        }
    }

    /// Brings an interface up.
    ///
    /// # Errors
    /// Code 1 with the tool's words, code 38 with the kernel's.
    pub async fn up(&self, of: Interface) -> Result<()> {
        match self.tool {
            Tool::Networkd => {
                run("networkctl", &["reload"]).await?;
                // It makes what is not there beside its answer.
                let end = tokio::time::Instant::now() + MAKING;
                while !link::exists(&of.name) && tokio::time::Instant::now() < end {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                run("networkctl", &["up", &of.name]).await
            }
            Tool::Ifupdown => run("ifup", &["--force", &of.name]).await,
            Tool::Kernel => blocking::run(move || kernel::up(&of)).await,
        }
    }

    /// Takes an interface down.
    ///
    /// # Errors
    /// Code 1 with the tool's words, code 38 with the kernel's.
    pub async fn down(&self, name: String) -> Result<()> {
        match self.tool {
            Tool::Networkd => run("networkctl", &["down", &name]).await,
            Tool::Ifupdown => run("ifdown", &["--force", &name]).await,
            Tool::Kernel => blocking::run(move || kernel::down(&name)).await,
        }
    }

    /// Removes what was made for a definition; what was plugged into it is free again.
    ///
    /// # Errors
    /// Code 1 with the tool's words, code 38 with the kernel's.
    pub async fn remove(&self, name: String) -> Result<()> {
        match self.tool {
            // Taken down alone it would stay.
            Tool::Networkd => run("networkctl", &["delete", &name]).await,
            Tool::Ifupdown | Tool::Kernel => self.down(name).await,
        }
    }
}

/// Whether a file that was there before is gone now.
fn put(folder: &Path, prefix: &str, files: &BTreeMap<String, String>) -> Result<bool> {
    let failed =
        |path: &Path, e| Error::system(Domain::Interface, format!("cannot write '{}'", path.display()), e);
    std::fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
    let mut gone = false;
    for (name, text) in files {
        let path = folder.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == *text) {
            continue;
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(MODE);
        write_whole(&path, &[text.as_bytes()], true)
            .and_then(|()| std::fs::set_permissions(&path, mode))
            .map_err(|e| failed(&path, e))?;
    }
    for entry in std::fs::read_dir(folder).map_err(|e| failed(folder, e))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) && !files.contains_key(&name) {
            std::fs::remove_file(entry.path()).map_err(|e| failed(&entry.path(), e))?;
            gone = true;
        }
    }
    Ok(gone)
}

async fn run(program: &str, args: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let command = command.stdin(Stdio::null()).kill_on_drop(true);
    let done = tokio::time::timeout(WAIT, command.output()).await;
    let late = |_| Error::internal(Domain::Interface, format!("{program} did not end in time"));
    let failed = |e| Error::system(Domain::Interface, format!("cannot run {program}"), e);
    let done = done.map_err(late)?.map_err(failed)?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(Error::internal(Domain::Interface, format!("{program} failed: {}", said.trim())))
}

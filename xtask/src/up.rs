//! `cargo xtask up` and `down`: builds the daemons and hands over to `virt-up`.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::repo;

/// Crates whose programs make a host: what has a service unit, and what they need.
///
/// # Errors
/// The folder of units cannot be read.
pub fn packages() -> Result<Vec<String>> {
    let mut packages = vec!["virt-activate".to_owned(), "virt-launch".to_owned()];
    for entry in std::fs::read_dir(repo::root().join("systemd")).context("reading systemd/")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        packages.extend(name.strip_suffix(".service").map(str::to_owned));
    }
    packages.sort();
    Ok(packages)
}

/// Brings all daemons up under a folder, started by the first call on their sockets; without systemd.
#[derive(Debug, clap::Args)]
pub struct Up {
    /// Folder that takes the place of /.
    #[arg(long)]
    root: PathBuf,
    /// Optimised programs.
    #[arg(long)]
    release: bool,
    /// More arguments for virt-up (see `virt-up --help`).
    #[arg(last = true)]
    more: Vec<String>,
}

/// Ends the daemons and guests that `up` brought up.
#[derive(Debug, clap::Args)]
pub struct Down {
    /// The folder given to `up`.
    #[arg(long)]
    root: PathBuf,
}

impl Up {
    /// Builds, then becomes `virt-up`: stays in the foreground until SIGTERM.
    ///
    /// # Errors
    /// A failed build, or `virt-up` missing after it.
    pub fn run(self) -> Result<()> {
        let programs = build(&packages()?, self.release)?;
        let error =
            Command::new(programs.join("virt-up")).arg("--root").arg(self.root).args(self.more).exec();
        Err(error).context("starting virt-up")
    }
}

impl Down {
    /// Builds `virt-up` if needed, then becomes `virt-up --down`.
    ///
    /// # Errors
    /// As [`Up::run`].
    pub fn run(self) -> Result<()> {
        let programs = build(&["virt-activate".to_owned()], false)?;
        let error = Command::new(programs.join("virt-up")).arg("--down").arg("--root").arg(self.root).exec();
        Err(error).context("starting virt-up")
    }
}

/// Builds `packages` and returns the folder of their programs.
pub fn build(packages: &[String], release: bool) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(repo::root()).args(["build", "--quiet"]);
    command.args(packages.iter().flat_map(|p| ["-p", p.as_str()]));
    if release {
        command.arg("--release");
    }
    if !command.status().context("starting cargo")?.success() {
        bail!("the build failed");
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repo::root().join("target"), PathBuf::from);
    Ok(target.join(if release { "release" } else { "debug" }))
}

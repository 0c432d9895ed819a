//! `cargo xtask up` and `down`: builds the daemons and hands over to `virt-up`.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::repo;

/// Programs that make a host.
pub const PACKAGES: [&str; 5] = ["virt-activate", "virt-launch", "virtproxyd", "virtqemud", "virtnetworkd"];

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
        let programs = build(&PACKAGES, self.release)?;
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
        let programs = build(&PACKAGES[..1], false)?;
        let error = Command::new(programs.join("virt-up")).arg("--down").arg("--root").arg(self.root).exec();
        Err(error).context("starting virt-up")
    }
}

/// Builds `packages` and returns the folder of their programs.
pub fn build(packages: &[&str], release: bool) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(repo::root()).args(["build", "--quiet"]);
    command.args(packages.iter().flat_map(|p| ["-p", p]));
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

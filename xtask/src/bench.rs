//! `cargo xtask bench`: builds all in release mode and hands over to the benchmark.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result};

use crate::up;

/// Prints one table of times; arguments are the benchmark's own (`cargo xtask bench -- --help`).
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// Unix socket of a reference daemon, put beside ours.
    #[arg(long)]
    reference: Option<String>,
    /// More arguments for the benchmark.
    #[arg(last = true)]
    more: Vec<String>,
}

impl Bench {
    /// Builds, then becomes the benchmark.
    ///
    /// # Errors
    /// A failed build.
    pub fn run(self) -> Result<()> {
        let programs = up::build(&[up::packages()?, vec!["virt-tests".to_owned()]].concat(), true)?;
        let mut command = Command::new(programs.join("bench"));
        if let Some(reference) = self.reference {
            command.args(["--reference", &reference]);
        }
        Err(command.args(self.more).exec()).context("starting the benchmark")
    }
}

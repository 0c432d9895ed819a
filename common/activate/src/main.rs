//! `virt-up`: all daemons of a root folder, started by the first call on their sockets.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use virt_activate::root;

/// Brings the daemons up under a folder, without systemd. Stays in the foreground until SIGTERM.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Folder that takes the place of /.
    #[arg(long)]
    root: PathBuf,
    /// The user's own daemons (qemu:///session).
    #[arg(long)]
    session: bool,
    /// End the activator, the daemons and the guests of this root.
    #[arg(long)]
    down: bool,
    /// Folder of the daemons' programs [default: where virt-up is].
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Folder of the unit files [default: the repository's].
    #[arg(long)]
    units: Option<PathBuf>,
    /// Seconds without work after which a daemon leaves; 0 = never.
    #[arg(long, default_value_t = 120)]
    timeout: u64,
    /// Daemons log more.
    #[arg(short, long)]
    verbose: bool,
    /// When standard input ends, end with everything, guests too, and remove the root folder.
    #[arg(long)]
    scratch: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.down {
        return root::down(&args.root);
    }
    let bin_dir = match args.bin_dir {
        Some(dir) => dir,
        None => std::env::current_exe()?.parent().context("no folder of programs")?.to_owned(),
    };
    let units = args.units.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systemd"));
    let options = root::Options {
        root: args.root,
        session: args.session,
        bin_dir,
        units,
        timeout: args.timeout,
        verbose: args.verbose,
        scratch: args.scratch,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(root::up(options))
}

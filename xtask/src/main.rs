//! Chores of this repository: `cargo xtask <command>`.

mod gen_proto;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Chores of this repository")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes generated code again from its sources.
    #[command(subcommand)]
    Gen(Gen),
}

#[derive(Subcommand)]
enum Gen {
    /// gRPC code and access table, from proto/.
    Proto,
}

/// The repository's top folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf()
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Gen(Gen::Proto) => gen_proto::generate(&root(), &root().join("common/api/src/gen")),
    }
}

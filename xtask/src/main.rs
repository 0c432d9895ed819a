//! Chores of this repository: `cargo xtask <chore>`. One file or folder per chore; a chore is a clap `Args` or
//! `Subcommand` with a `run`, listed here.

mod bench;
mod generate;
mod repo;
mod up;

use clap::{Parser, Subcommand};

/// Chores of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Writes generated source files.
    #[command(subcommand)]
    Gen(generate::What),
    Bench(bench::Bench),
    Up(up::Up),
    Down(up::Down),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().chore {
        Chore::Gen(what) => what.run(),
        Chore::Bench(bench) => bench.run(),
        Chore::Up(up) => up.run(),
        Chore::Down(down) => down.run(),
    }
}

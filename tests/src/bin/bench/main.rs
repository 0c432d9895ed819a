//! The project's benchmark: `cargo xtask bench [--reference SOCKET]`. Brings our daemons up unless `--ours` names some.
//!
//! Every case runs against each server in turn, round by round, from one thread; a figure is the median over the rounds.
//! Only ratios say much, since machines are shared and drift. "floor" is the protocol layer alone: a server on a thread
//! of this process that answers by itself, which no server behind the same wire can beat.

mod cases;
mod native;
mod networks;
mod own;
mod table;
mod volumes;

use anyhow::{Context, Result};
use cases::{Case, Server};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use table::Table;
use virt_testkit::host::Host;

/// Times calls over the libvirt protocol.
#[derive(Debug, Parser)]
struct Options {
    /// Unix socket of our virtproxyd, when it runs already; otherwise a host is brought up for the time.
    #[arg(long)]
    ours: Option<PathBuf>,
    /// Unix socket of a reference daemon.
    #[arg(long)]
    reference: Option<PathBuf>,
    /// Folder of our daemons' gRPC sockets, to time the same calls without the proxy.
    #[arg(long)]
    native: Option<PathBuf>,
    /// The daemon called there.
    #[arg(long, default_value = "virtqemud")]
    daemon: String,
    /// What is opened on both.
    #[arg(long, default_value = "qemu:///system")]
    uri: String,
    /// Calls per round of the small cases.
    #[arg(long, default_value_t = 5000)]
    calls: usize,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many guests the define case defines.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    guests: Vec<usize>,
    /// How many networks the networks case defines; at most 50 of them are active at once.
    #[arg(long, default_value_t = 200)]
    networks: usize,
    /// How many volumes the pool of the volumes case has.
    #[arg(long, default_value_t = 10_000)]
    volumes: usize,
    /// Only these cases.
    #[arg(long, value_enum)]
    only: Vec<Case>,
}

fn main() -> Result<()> {
    let mut options = Options::parse();
    let host = if options.ours.is_none() { Host::ours(virt_testkit::host::Options::default()) } else { None };
    if let Some(host) = &host {
        options.ours = Some(own::socket(host));
        options.native = Some(own::grpc(host));
    }
    let folder = tempfile::tempdir()?;
    let floor = folder.path().join("floor");
    serve_floor(floor.clone())?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(
        &options,
        &floor,
        host.as_ref(),
    ))
}

/// The floor's server, on a thread that ends with the process.
fn serve_floor(path: PathBuf) -> Result<()> {
    let (ready, is_ready) = mpsc::channel();
    std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let server = virt_testkit::wire_server::listen(&path)?;
            ready.send(())?;
            Ok(server.await?)
        })
    });
    is_ready.recv().context("the floor's server did not start")
}

async fn run(options: &Options, floor: &Path, host: Option<&Host>) -> Result<()> {
    let server = |name, path: &Path| Server { name, path: path.to_owned(), uri: options.uri.clone() };
    let mut servers = vec![server("floor", floor)];
    servers.extend(options.ours.as_deref().map(|p| server("ours", p)));
    servers.extend(options.reference.as_deref().map(|p| server("reference", p)));
    servers.extend(
        options.native.as_deref().map(|p| Server { uri: options.daemon.clone(), ..server("native", p) }),
    );
    let mut table = Table::default();
    if let Some(host) = host {
        own::measure(host, &options.uri, options.rounds, &mut table).await;
    }
    for case in Case::all(&options.only, options.calls, &options.guests, options.networks, options.volumes) {
        for _ in 0..options.rounds {
            for server in servers.iter().filter(|s| case.runs_on(s)) {
                let figures = case.run(server).await;
                table.add(
                    &case.label(),
                    server.name,
                    figures.with_context(|| format!("{} on {}", case.label(), server.name)),
                );
            }
        }
        table.print_new_rows();
    }
    if let Some(host) = host {
        own::worked(host, &mut table);
    }
    table.failures()
}

//! Our own daemons, brought up for the benchmark: their cold start and their memory.

use crate::table::{Figure, Table};
use anyhow::Result;
use std::path::PathBuf;
use std::time::Instant;
use virt_testkit::host::Host;
use virt_wire::client::Client;
use virt_wire::remote::{self, procs};

const DAEMONS: [&str; 2] = ["virtproxyd", "virtqemud"];

/// Where virtproxyd listens.
pub fn socket(host: &Host) -> PathBuf {
    host.root().join("run/libvirt/libvirt-sock")
}

/// Where the daemons' gRPC sockets are.
pub fn grpc(host: &Host) -> PathBuf {
    host.root().join("run/libvirt/grpc")
}

/// Adds the rows that only a host of our own can give.
pub async fn measure(host: &Host, uri: &str, rounds: usize, table: &mut Table) {
    for _ in 0..rounds {
        table.add("cold start", "ours", cold(host, uri).await);
    }
    table.print_new_rows();
    // Resident after all the work above, and what a fresh start takes.
    table.add("memory, fresh", "ours", Ok(memory(host)));
    table.print_new_rows();
}

/// Memory after the other cases ran.
pub fn worked(host: &Host, table: &mut Table) {
    table.add("memory, worked", "ours", Ok(memory(host)));
    table.print_new_rows();
}

/// From no daemon at all to the first answers.
async fn cold(host: &Host, uri: &str) -> Result<Vec<Figure>> {
    for daemon in DAEMONS {
        if host.pid(daemon).is_some() {
            host.kill(daemon);
        }
    }
    let ms = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    let client = Client::open_unix(&socket(host), uri, false).await?;
    let args = remote::ConnectListAllDomainsArgs { need_results: 1, flags: 0 };
    client.call::<procs::ConnectListAllDomains>(&args).await?;
    let list = ms(start);
    let start = Instant::now();
    client.call::<procs::ConnectGetCapabilities>(&()).await?;
    let capabilities = ms(start);
    client.close().await?;
    Ok(vec![("first list ms", list), ("then caps ms", capabilities)])
}

fn memory(host: &Host) -> Vec<Figure> {
    let mib = |daemon| host.pid(daemon).map_or(0.0, |_| host.resident(daemon) as f64 / f64::from(1 << 20));
    vec![("virtproxyd MiB", mib(DAEMONS[0])), ("virtqemud MiB", mib(DAEMONS[1]))]
}

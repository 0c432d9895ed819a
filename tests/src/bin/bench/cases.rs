//! What is timed.

use crate::native;
use crate::networks;
use crate::table::Figure;
use crate::volumes;
use anyhow::Result;
use clap::ValueEnum;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use virt_wire::client::Client;
use virt_wire::remote::{self, procs};

/// A server under test.
pub struct Server {
    /// Its column.
    pub name: &'static str,
    /// Its socket, or for native calls the folder of the daemons' gRPC sockets.
    pub path: PathBuf,
    /// What is opened; for native calls the daemon's name.
    pub uri: String,
}

/// A case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// The library's version: a call that needs no driver.
    Rpc,
    /// A guest by name: a call that needs the driver's daemon.
    Lookup,
    /// The library's version from eight connections at once.
    Parallel,
    /// Define, list, read and undefine many guests.
    Define,
    /// Start and destroy a guest without disks, emulated.
    Lifecycle,
    /// Define many networks, start and stop some of them.
    Networks,
    /// Refresh and list a pool of many volumes, look some of them up.
    Volumes,
}

/// A case with its size.
pub struct Sized {
    case: Case,
    size: usize,
}

const CONNECTIONS: usize = 8;
/// Starts per round: the reference needs two seconds for each.
const LIVES: usize = 5;
const ALL_DOMAINS: u32 = 3;

impl Case {
    /// The chosen cases (none chosen: all) with their sizes.
    pub fn all(only: &[Self], calls: usize, guests: &[usize], networks: usize, volumes: usize) -> Vec<Sized> {
        let chosen = Self::value_variants().iter().filter(|c| only.is_empty() || only.contains(c));
        chosen
            .flat_map(|case| {
                let sizes = match case {
                    Self::Define => guests.to_vec(),
                    Self::Lifecycle => vec![LIVES],
                    Self::Networks => vec![networks],
                    Self::Volumes => vec![volumes],
                    _ => vec![calls],
                };
                sizes.into_iter().map(|size| Sized { case: *case, size })
            })
            .collect()
    }
}

impl Sized {
    /// The row's name.
    pub fn label(&self) -> String {
        match self.case {
            Case::Rpc => "small call".to_owned(),
            Case::Lookup => "lookup by name".to_owned(),
            Case::Parallel => format!("{CONNECTIONS} clients"),
            Case::Define => format!("{} guests", self.size),
            Case::Lifecycle => "lifecycle".to_owned(),
            Case::Networks => format!("{} networks", self.size),
            Case::Volumes => format!("{} volumes", self.size),
        }
    }

    /// The floor has no guests, and native calls are there to compare single calls.
    pub fn runs_on(&self, server: &Server) -> bool {
        match server.name {
            "floor" => matches!(self.case, Case::Rpc | Case::Parallel),
            "native" => matches!(self.case, Case::Rpc | Case::Lookup),
            _ => true,
        }
    }

    /// One round.
    pub async fn run(&self, server: &Server) -> Result<Vec<Figure>> {
        if server.name == "native" {
            return match self.case {
                Case::Rpc => native::rpc(&server.path, &server.uri, self.size).await,
                _ => native::lookup(&server.path, &server.uri, self.size).await,
            };
        }
        let client = Client::open_unix(&server.path, &server.uri, false).await?;
        let figures = match self.case {
            Case::Rpc => rpc(&client, self.size).await,
            Case::Lookup => lookup(&client, self.size).await,
            Case::Parallel => parallel(server, self.size).await,
            Case::Define => define(&client, self.size).await,
            Case::Lifecycle => lifecycle(&client, self.size).await,
            Case::Networks => networks::run(&client, self.size).await,
            Case::Volumes => volumes::run(&client, self.size).await,
        }?;
        client.close().await?;
        Ok(figures)
    }
}

async fn rpc(client: &Client, calls: usize) -> Result<Vec<Figure>> {
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let start = Instant::now();
        client.call::<procs::ConnectGetLibVersion>(&()).await?;
        times.push(start.elapsed());
    }
    Ok(percentiles(times))
}

async fn lookup(client: &Client, calls: usize) -> Result<Vec<Figure>> {
    let guests = define_guests(client, 1).await?.0;
    let args = remote::DomainLookupByNameArgs { name: guests[0].name.clone() };
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let start = Instant::now();
        client.call::<procs::DomainLookupByName>(&args).await?;
        times.push(start.elapsed());
    }
    undefine_guests(client, guests).await?;
    Ok(percentiles(times))
}

async fn parallel(server: &Server, calls: usize) -> Result<Vec<Figure>> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::open_unix(&server.path, &server.uri, false).await?);
    }
    let start = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|client| {
            tokio::spawn(async move {
                for _ in 0..calls {
                    client.call::<procs::ConnectGetLibVersion>(&()).await?;
                }
                client.close().await
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(vec![("calls/s", (CONNECTIONS * calls) as f64 / start.elapsed().as_secs_f64())])
}

async fn define(client: &Client, guests: usize) -> Result<Vec<Figure>> {
    let (domains, times) = define_guests(client, guests).await?;
    let defined = percentiles(times);
    let start = Instant::now();
    let args = remote::ConnectListAllDomainsArgs { need_results: 1, flags: ALL_DOMAINS };
    let listed = client.call::<procs::ConnectListAllDomains>(&args).await?.domains.len();
    let list = start.elapsed();
    anyhow::ensure!(listed >= guests, "{guests} guests were defined, {listed} are listed");
    let mut times = Vec::new();
    for dom in domains.iter().step_by(1 + guests / 200) {
        let args = remote::DomainGetXmlDescArgs { dom: dom.clone(), flags: 0 };
        let start = Instant::now();
        client.call::<procs::DomainGetXmlDesc>(&args).await?;
        times.push(start.elapsed());
    }
    let xml = percentiles(times);
    let undefined = percentiles(undefine_guests(client, domains).await?);
    Ok(vec![
        ("define p50 us", defined[0].1),
        ("define p99 us", defined[1].1),
        ("list all ms", list.as_secs_f64() * 1e3),
        ("xml p50 us", xml[0].1),
        ("undefine p50 us", undefined[0].1),
    ])
}

async fn lifecycle(client: &Client, lives: usize) -> Result<Vec<Figure>> {
    let guests = define_guests(client, 1).await?.0;
    let result = live(client, &guests[0], lives).await;
    undefine_guests(client, guests).await?;
    let (starts, destroys) = result?;
    Ok(vec![
        ("start p50 ms", percentiles(starts)[0].1 / 1e3),
        ("destroy p50 ms", percentiles(destroys)[0].1 / 1e3),
    ])
}

async fn live(
    client: &Client,
    guest: &remote::NonnullDomain,
    lives: usize,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let (mut starts, mut destroys) = (Vec::new(), Vec::new());
    for _ in 0..lives {
        let start = Instant::now();
        client.call::<procs::DomainCreate>(&remote::DomainCreateArgs { dom: guest.clone() }).await?;
        starts.push(start.elapsed());
        let start = Instant::now();
        client.call::<procs::DomainDestroy>(&remote::DomainDestroyArgs { dom: guest.clone() }).await?;
        destroys.push(start.elapsed());
    }
    Ok((starts, destroys))
}

/// A small guest; its name has the number in it.
pub fn guest_xml(number: usize) -> String {
    format!(
        "<domain type='qemu'><name>bench-{}-{number}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>\
         <devices><serial type='pty'/></devices></domain>",
        std::process::id()
    )
}

/// Guests of this process, and how long each took.
async fn define_guests(client: &Client, count: usize) -> Result<(Vec<remote::NonnullDomain>, Vec<Duration>)> {
    let (mut guests, mut times) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for i in 0..count {
        let xml = guest_xml(i);
        let start = Instant::now();
        match client.call::<procs::DomainDefineXml>(&remote::DomainDefineXmlArgs { xml }).await {
            Ok(ret) => guests.push(ret.dom),
            Err(e) => {
                // What was defined goes again, as well as it may; the first failure is the one to tell.
                let _ = undefine_guests(client, guests).await;
                return Err(e.into());
            }
        }
        times.push(start.elapsed());
    }
    Ok((guests, times))
}

async fn undefine_guests(client: &Client, guests: Vec<remote::NonnullDomain>) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(guests.len());
    for dom in guests {
        let start = Instant::now();
        client.call::<procs::DomainUndefineFlags>(&remote::DomainUndefineFlagsArgs { dom, flags: 0 }).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// Median and 99th percentile in microseconds; zero when nothing was timed.
pub fn percentiles(mut times: Vec<Duration>) -> Vec<Figure> {
    times.sort();
    let at = |share: f64| {
        let i = (times.len() as f64 * share) as usize;
        times.get(i.min(times.len().saturating_sub(1))).map_or(0.0, |t| t.as_secs_f64() * 1e6)
    };
    vec![("p50 us", at(0.5)), ("p99 us", at(0.99))]
}

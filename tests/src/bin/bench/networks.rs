//! Many networks: defining them, and starting and stopping some while more and more are active.

use crate::cases::percentiles;
use crate::table::Figure;
use anyhow::Result;
use std::time::{Duration, Instant};
use virt_wire::client::Client;
use virt_wire::remote::{self, procs};

/// Of those that are defined, this many are active at once.
const ACTIVE: usize = 50;
/// The first and last starts that are put side by side.
const ENDS: usize = 10;

/// Addresses of a block that hosts seldom use; the bridge's name has the number in it.
fn xml(number: usize) -> String {
    let (third, name) = (format!("10.{}.{}", 232 + number / 250, number % 250), std::process::id());
    format!(
        "<network><name>bench-{name}-{number}</name><forward mode='nat'/><bridge name='bnch{number}'/>\
         <ip address='{third}.1' prefix='24'><dhcp><range start='{third}.2' end='{third}.99'/></dhcp></ip></network>"
    )
}

async fn timed<T>(times: &mut Vec<Duration>, call: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let answer = call.await;
    times.push(start.elapsed());
    answer
}

/// One round; what was made goes again, whatever fails.
pub async fn run(client: &Client, count: usize) -> Result<Vec<Figure>> {
    let mut networks = Vec::new();
    let result = lives(client, count, &mut networks).await;
    for net in networks {
        let _ = client.call::<procs::NetworkDestroy>(&remote::NetworkDestroyArgs { net: net.clone() }).await;
        client.call::<procs::NetworkUndefine>(&remote::NetworkUndefineArgs { net }).await?;
    }
    result
}

async fn lives(
    client: &Client,
    count: usize,
    networks: &mut Vec<remote::NonnullNetwork>,
) -> Result<Vec<Figure>> {
    let (mut defines, mut starts, mut stops) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..count {
        let args = remote::NetworkDefineXmlArgs { xml: xml(number) };
        networks.push(timed(&mut defines, client.call::<procs::NetworkDefineXml>(&args)).await?.net);
    }
    let active = &networks[..count.min(ACTIVE)];
    for net in active {
        let args = remote::NetworkCreateArgs { net: net.clone() };
        timed(&mut starts, client.call::<procs::NetworkCreate>(&args)).await?;
    }
    for net in active {
        let args = remote::NetworkDestroyArgs { net: net.clone() };
        timed(&mut stops, client.call::<procs::NetworkDestroy>(&args)).await?;
    }
    let ends = ENDS.min(starts.len());
    let median = |times: &[Duration]| percentiles(times.to_vec())[0].1 / 1e3;
    Ok(vec![
        ("define p50 us", percentiles(defines)[0].1),
        ("first starts ms", median(&starts[..ends])),
        ("last starts ms", median(&starts[starts.len() - ends..])),
        ("stop p50 ms", median(&stops)),
    ])
}

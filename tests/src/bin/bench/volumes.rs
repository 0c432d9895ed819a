//! A pool of many volumes: reading it anew, listing it, looking single volumes up.

use crate::cases::percentiles;
use crate::table::Figure;
use anyhow::{Context as _, Result};
use std::fs::File;
use std::time::Instant;
use virt_wire::client::Client;
use virt_wire::remote::{self, procs};

/// How often the pool is read anew and listed.
const ROUNDS: usize = 5;
/// How many volumes are looked up.
const LOOKUPS: usize = 500;

fn name(number: usize) -> String {
    format!("volume-{number:06}")
}

/// One round; what was made goes again, whatever fails.
pub async fn run(client: &Client, count: usize) -> Result<Vec<Figure>> {
    let dir = tempfile::tempdir().context("a folder for the pool")?;
    for number in 0..count {
        File::create(dir.path().join(name(number)))?.set_len(1 << 20)?;
    }
    let xml = format!(
        "<pool type='dir'><name>bench-{}</name><target><path>{}</path></target></pool>",
        std::process::id(),
        dir.path().display()
    );
    let args = remote::StoragePoolCreateXmlArgs { xml, flags: 0 };
    let pool = client.call::<procs::StoragePoolCreateXml>(&args).await?.pool;
    let result = measure(client, &pool, count).await;
    client.call::<procs::StoragePoolDestroy>(&remote::StoragePoolDestroyArgs { pool }).await?;
    result
}

async fn measure(client: &Client, pool: &remote::NonnullStoragePool, count: usize) -> Result<Vec<Figure>> {
    let (mut refreshes, mut lists, mut lookups) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let args = remote::StoragePoolRefreshArgs { pool: pool.clone(), flags: 0 };
        let start = Instant::now();
        client.call::<procs::StoragePoolRefresh>(&args).await?;
        refreshes.push(start.elapsed());
        let args = remote::StoragePoolListAllVolumesArgs { pool: pool.clone(), need_results: 1, flags: 0 };
        let start = Instant::now();
        let listed = client.call::<procs::StoragePoolListAllVolumes>(&args).await?.vols.len();
        lists.push(start.elapsed());
        anyhow::ensure!(listed == count, "{count} volumes were made, {listed} are listed");
    }
    for number in (0..count).step_by(1 + count / LOOKUPS) {
        let args = remote::StorageVolLookupByNameArgs { pool: pool.clone(), name: name(number) };
        let start = Instant::now();
        client.call::<procs::StorageVolLookupByName>(&args).await?;
        lookups.push(start.elapsed());
    }
    Ok(vec![
        ("refresh p50 ms", percentiles(refreshes)[0].1 / 1e3),
        ("list all ms", percentiles(lists)[0].1 / 1e3),
        ("lookup p50 us", percentiles(lookups)[0].1),
    ])
}

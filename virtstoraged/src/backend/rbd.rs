//! Pools of Ceph: their volumes are images that guests reach over the network.

use serde_json::Value;
use virt_error::{Domain, Error, Result};
use virt_host::tool::{Output, Run};
use virt_model::secret::UsageType;
use virt_model::storage::source::Host;
use virt_model::storage::{Pool, Volume as Document, VolumeType};
use virt_secret::Value as Secret;

use super::{Backend, Content, Create, Cx, Resize, block, no_support, unsupported};
use crate::keys;
use crate::pool::Sizes;
use crate::volume::Volume;

/// `<pool type='rbd'>`.
pub struct Rbd;

/// How long a cluster may take to answer, in seconds.
const PATIENCE: [&str; 6] =
    ["--client-mount-timeout", "30", "--rados-mon-op-timeout", "30", "--rados-osd-op-timeout", "30"];

/// A word that is an argument and part of an image's name.
fn word<'a>(text: &'a str, what: &str) -> Result<&'a str> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-:[]".contains(c);
    match !text.is_empty() && !text.starts_with('-') && text.chars().all(good) {
        true => Ok(text),
        false => Err(Error::internal(Domain::Storage, format!("invalid {what} '{text}'"))),
    }
}

fn name(pool: &Pool) -> Result<&str> {
    word(pool.source.name.as_deref().unwrap_or_default(), "pool name")
}

fn monitor(host: &Host) -> Result<String> {
    let name = word(&host.name, "host name")?;
    Ok(host.port.map_or_else(|| name.to_string(), |port| format!("{name}:{port}")))
}

fn run(cx: &Cx<'_>, pool: &Pool, program: &'static str, args: &[&str]) -> Result<Output> {
    let hosts = pool.source.hosts.iter().map(monitor).collect::<Result<Vec<_>>>()?.join(",");
    // Only the pool's document counts, not how this host reaches clusters otherwise.
    let mut run = Run::new(program, Domain::Storage).args(["-c", "/dev/null", "-m", hosts.as_str()]);
    run = run.args(PATIENCE).cancel(&cx.cancel);
    match &pool.source.auth {
        Some(auth) => {
            let key = keys::password(cx.keys, auth, UsageType::Ceph)?;
            // Ceph writes its keys as base64.
            let key = Secret::new(key.to_base64().as_bytes().to_vec());
            let file = run.hand(key.to_memfd()?);
            run = run.args(["--auth-supported", "cephx", "--id", word(&auth.username, "user name")?]);
            run = run.args(["--keyfile", &file]);
        }
        None => run = run.args(["--auth-supported", "none"]),
    }
    for (option, value) in &pool.options.ceph {
        run = run.arg(format!("--{}", word(option, "option")?.replace('_', "-"))).arg(word(value, "value")?);
    }
    cx.tools.run(&run.args(args.iter().copied()))
}

fn json(output: &Output) -> Result<Value> {
    let bad = |e| Error::internal(Domain::Storage, "malformed output of Ceph").with_source(e);
    serde_json::from_slice(&output.out).map_err(bad)
}

fn volume(pool: &str, name: &str, size: u64) -> Volume {
    let path = format!("{pool}/{name}");
    let mut volume = block::told(name, &path, &path, Some("raw"), (size, size));
    volume.document.kind = Some(VolumeType::Network);
    volume.document.physical = None;
    volume
}

fn size_text(bytes: u64) -> String {
    format!("{bytes}B")
}

impl Backend for Rbd {
    fn needs(&self) -> &'static [&'static str] {
        &["rbd", "ceph"]
    }

    fn is_active(&self, _: &Cx<'_>, _: &Pool) -> Result<bool> {
        Ok(true)
    }

    fn refresh(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Content> {
        let own = name(pool)?;
        let rows = json(&run(cx, pool, "rbd", &["--format", "json", "ls", "-l", own])?)?;
        let images = rows.as_array().into_iter().flatten().filter(|row| row["snapshot"].is_null());
        let volumes =
            images.filter_map(|row| Some(volume(own, row["image"].as_str()?, row["size"].as_u64()?)));
        let volumes = volumes.collect();
        Ok(Content { sizes: self.sizes(cx, pool)?, volumes, ..Content::default() })
    }

    fn sizes(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Sizes> {
        let all = json(&run(cx, pool, "ceph", &["df", "--format", "json"])?)?;
        let own = name(pool)?;
        let whole = |field: &Value| field.as_u64().unwrap_or(0);
        // A cluster that counts nothing (it has no manager) has no row: the images were listed all the same.
        let row = all["pools"].as_array().and_then(|pools| pools.iter().find(|p| p["name"] == own));
        let (capacity, available) =
            (whole(&all["stats"]["total_bytes"]), whole(&all["stats"]["total_avail_bytes"]));
        Ok(Sizes { capacity, available, allocation: row.map_or(0, |row| whole(&row["stats"]["stored"])) })
    }

    fn place(&self, pool: &Pool, volume: &str) -> Result<(String, String)> {
        crate::paths::check_name(pool.kind, volume)?;
        let path = format!("{}/{volume}", name(pool)?);
        Ok((path.clone(), path))
    }

    fn volume_type(&self, _: &Pool, _: &Document) -> VolumeType {
        VolumeType::Network
    }

    fn create(&self, cx: &Cx<'_>, pool: &Pool, create: &Create<'_>) -> Result<Volume> {
        let wanted = create.wanted;
        if wanted.target.encryption.is_some() {
            return Err(unsupported("storage pool does not support encrypted volumes"));
        }
        let image = format!("{}/{}", name(pool)?, wanted.name());
        let capacity = wanted.capacity.map_or(0, |b| b.0);
        if capacity == 0 {
            return Err(Error::new(
                virt_error::Code::NoSupport,
                Domain::Storage,
                "volume capacity required for this storage pool",
            ));
        }
        match create.from {
            None => drop(run(cx, pool, "rbd", &["create", "--size", &size_text(capacity), &image])?),
            Some(source) => {
                let from = source.volume.path();
                if source.kind != pool.kind || from.split('/').next() != Some(name(pool)?) {
                    return Err(no_support("copies of volumes of other pools"));
                }
                run(cx, pool, "rbd", &["cp", from, &image])?;
            }
        }
        self.look(cx, pool, &volume(name(pool)?, wanted.name(), capacity))
    }

    fn delete_volume(&self, cx: &Cx<'_>, pool: &Pool, volume: &Volume, flags: u32) -> Result<()> {
        let image = format!("{}/{}", name(pool)?, word(volume.name(), "volume name")?);
        if flags & virt_consts::VIR_STORAGE_VOL_DELETE_WITH_SNAPSHOTS != 0 {
            run(cx, pool, "rbd", &["snap", "purge", &image])?;
        }
        run(cx, pool, "rbd", &["rm", "--no-progress", &image]).map(drop)
    }

    fn resize(&self, cx: &Cx<'_>, pool: &Pool, volume: &Volume, wanted: Resize) -> Result<()> {
        let image = format!("{}/{}", name(pool)?, word(volume.name(), "volume name")?);
        let size = size_text(wanted.capacity);
        let mut args = vec!["resize", "--no-progress", "--size", &size];
        if wanted.shrink {
            args.push("--allow-shrink");
        }
        args.push(&image);
        run(cx, pool, "rbd", &args).map(drop)
    }

    fn look(&self, cx: &Cx<'_>, pool: &Pool, old: &Volume) -> Result<Volume> {
        let image = format!("{}/{}", name(pool)?, word(old.name(), "volume name")?);
        let info = json(&run(cx, pool, "rbd", &["--format", "json", "info", &image])?)?;
        let size = info["size"].as_u64();
        let size = size.ok_or_else(|| Error::internal(Domain::Storage, "malformed output of Ceph"))?;
        Ok(volume(name(pool)?, old.name(), size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::NoKeys;
    use virt_host::tool::{Cancel, RecordedTools};

    const SAID: &str = "-c /dev/null -m h:6789,i --client-mount-timeout 30 --rados-mon-op-timeout 30 \
                        --rados-osd-op-timeout 30 --auth-supported none";

    #[test]
    fn a_pool_of_images_is_read() {
        let out = |text: &str| Output { out: text.as_bytes().to_vec(), ..Output::default() };
        let ls = r#"[{"image":"a","size":10485760,"format":2},{"image":"a","snapshot":"s","size":5}]"#;
        let df = r#"{"stats":{"total_bytes":1000,"total_avail_bytes":800},
            "pools":[{"name":"rbd","stats":{"stored":100}}]}"#;
        let tools = RecordedTools::new([
            (format!("rbd {SAID} --rbd-cache false --format json ls -l rbd"), out(ls)),
            (format!("ceph {SAID} --rbd-cache false df --format json"), out(df)),
        ]);
        let pool = Pool::parse(
            "<pool type='rbd' xmlns:rbd='http://libvirt.org/schemas/storagepool/rbd/1.0'><name>p</name><source>\
             <name>rbd</name><host name='h' port='6789'/><host name='i'/></source>\
             <rbd:config_opts><rbd:option name='rbd_cache' value='false'/></rbd:config_opts></pool>",
        )
        .unwrap();
        let found = Rbd.refresh(&Cx::new(&tools, &NoKeys, Cancel::default()), &pool).unwrap();
        assert_eq!(found.sizes, Sizes { capacity: 1000, available: 800, allocation: 100 });
        assert_eq!((found.volumes.len(), found.volumes[0].path()), (1, "rbd/a"));
        assert_eq!(found.volumes[0].kind(), VolumeType::Network);
    }
}

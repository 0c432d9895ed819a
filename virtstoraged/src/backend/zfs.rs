//! Pools that are ZFS pools: their volumes are zvols.

use std::path::Path;

use virt_error::{Domain, Error, Result};
use virt_host::tool::{Output, Run};
use virt_model::storage::Pool;

use super::{Backend, Content, Create, Cx, Overwrite, block, disk, logical};
use crate::pool::Sizes;
use crate::volume::Volume;

/// `<pool type='zfs'>`.
pub struct Zfs;

fn dataset(pool: &Pool) -> Result<&str> {
    let name = pool.source.name.as_deref().unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-:/".contains(c);
    let parts = name.split('/').all(|p| !p.is_empty() && p != "." && p != "..");
    match parts && !name.starts_with('-') && name.chars().all(good) {
        true => Ok(name),
        false => Err(Error::internal(Domain::Storage, format!("invalid zfs pool name '{name}'"))),
    }
}

/// The pool that a dataset is in.
fn zpool(pool: &Pool) -> Result<&str> {
    Ok(dataset(pool)?.split('/').next().unwrap_or_default())
}

fn run(cx: &Cx<'_>, program: &'static str, args: &[&str]) -> Result<Output> {
    cx.tools.run(&Run::new(program, Domain::Storage).args(args.iter().copied()).cancel(&cx.cancel))
}

/// "POOL\tsize\t107\t-" lines.
fn sizes_in(text: &str) -> Result<Sizes> {
    let value = |wanted: &str| {
        let line = text.lines().find(|l| l.split('\t').nth(1) == Some(wanted));
        let found = line.and_then(|l| l.split('\t').nth(2)).unwrap_or_default();
        block::number(found, wanted)
    };
    Ok(Sizes { capacity: value("size")?, allocation: value("allocated")?, available: value("free")? })
}

/// "POOL/name\tvolsize\trefreservation" lines; volumes of datasets below are not ours.
fn volumes_in(pool: &Pool, text: &str) -> Result<Vec<Volume>> {
    let mut volumes = Vec::new();
    let prefix = format!("{}/", dataset(pool)?);
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [full, size, reserved, ..] = fields[..] else { continue };
        let Some(name) = full.strip_prefix(&prefix).filter(|n| !n.contains('/')) else { continue };
        let size = block::number(size, "volsize")?;
        // A sparse volume has nothing reserved.
        let reserved = if reserved == "none" { 0 } else { block::number(reserved, "refreservation")? };
        let path = format!("{}/{name}", pool.path());
        volumes.push(block::told(name, &path, full, None, (size, reserved)));
    }
    Ok(volumes)
}

impl Backend for Zfs {
    fn needs(&self) -> &'static [&'static str] {
        &["zfs", "zpool"]
    }

    fn is_active(&self, _: &Cx<'_>, pool: &Pool) -> Result<bool> {
        Ok(Path::new(pool.path()).is_dir())
    }

    fn build(&self, cx: &Cx<'_>, pool: &Pool, _: Overwrite) -> Result<()> {
        let mut args = vec!["create", zpool(pool)?];
        for device in &pool.source.devices {
            if !device.path.starts_with('/') {
                return Err(Error::internal(Domain::Storage, format!("invalid device '{}'", device.path)));
            }
            args.push(&device.path);
        }
        run(cx, "zpool", &args).map(drop)
    }

    fn delete(&self, cx: &Cx<'_>, pool: &Pool) -> Result<()> {
        run(cx, "zpool", &["destroy", zpool(pool)?]).map(drop)
    }

    fn refresh(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Content> {
        let sizes = self.sizes(cx, pool)?;
        let list = ["list", "-Hp", "-t", "volume", "-r", "-o", "name,volsize,refreservation", dataset(pool)?];
        let volumes = volumes_in(pool, &run(cx, "zfs", &list)?.text())?;
        Ok(Content { sizes, volumes, ..Content::default() })
    }

    fn sizes(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Sizes> {
        sizes_in(&run(cx, "zpool", &["get", "-Hp", "health,size,free,allocated", zpool(pool)?])?.text())
    }

    fn place(&self, pool: &Pool, name: &str) -> Result<(String, String)> {
        crate::paths::check_name(pool.kind, name)?;
        Ok((format!("{}/{name}", pool.path()), format!("{}/{name}", dataset(pool)?)))
    }

    fn create(&self, cx: &Cx<'_>, pool: &Pool, create: &Create<'_>) -> Result<Volume> {
        let wanted = create.wanted;
        let (capacity, allocation) =
            (wanted.capacity.map_or(0, |b| b.0), wanted.allocation.map_or(0, |b| b.0));
        let size = format!("{}K", capacity.div_ceil(1024));
        let name = format!("{}/{}", dataset(pool)?, wanted.name());
        let mut args = vec!["create"];
        if allocation < capacity {
            args.push("-s");
        }
        args.extend(["-V", &size, &name]);
        run(cx, "zfs", &args)?;
        disk::settle(cx);
        let found = self.refresh(cx, pool)?.volumes.into_iter().find(|v| v.name() == wanted.name());
        let made =
            found.ok_or_else(|| Error::internal(Domain::Storage, "the new volume is not in the pool"))?;
        if let Some(source) = create.from {
            logical::fill(cx, source, Path::new(made.path())).inspect_err(|_| {
                let _ = run(cx, "zfs", &["destroy", &name]);
            })?;
        }
        Ok(made)
    }

    fn delete_volume(&self, cx: &Cx<'_>, pool: &Pool, volume: &Volume, _: u32) -> Result<()> {
        crate::paths::check_name(pool.kind, volume.name())?;
        run(cx, "zfs", &["destroy", &format!("{}/{}", dataset(pool)?, volume.name())]).map(drop)
    }

    fn look(&self, _: &Cx<'_>, _: &Pool, volume: &Volume) -> Result<Volume> {
        Ok(block::again(volume).unwrap_or_else(|_| volume.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::NoKeys;
    use virt_host::tool::{Cancel, RecordedTools};

    #[test]
    fn a_zpool_is_read() {
        let out = |text: &str| Output { out: text.as_bytes().to_vec(), ..Output::default() };
        let sizes =
            "tank\thealth\tONLINE\t-\ntank\tsize\t1000\t-\ntank\tfree\t600\t-\ntank\tallocated\t400\t-\n";
        let list = "tank/a\t10485760\tnone\ntank/b\t20\t20\ntank/sub/c\t5\t5\n";
        let tools = RecordedTools::new([
            ("zpool get -Hp health,size,free,allocated tank".to_string(), out(sizes)),
            ("zfs list -Hp -t volume -r -o name,volsize,refreservation tank".to_string(), out(list)),
        ]);
        let pool =
            Pool::parse("<pool type='zfs'><name>p</name><source><name>tank</name></source></pool>").unwrap();
        let found = Zfs.refresh(&Cx::new(&tools, &NoKeys, Cancel::default()), &pool).unwrap();
        assert_eq!(found.sizes, Sizes { capacity: 1000, allocation: 400, available: 600 });
        let names: Vec<_> = found.volumes.iter().map(|v| (v.name(), v.capacity(), v.allocation())).collect();
        assert_eq!(names, [("a", 10_485_760, 0), ("b", 20, 20)]);
    }
}

//! Pools that are LVM volume groups.

use std::path::PathBuf;

use serde_json::Value;
use virt_error::{Domain, Error, Result};
use virt_host::tool::{Output, Run};
use virt_model::storage::source::{Device, Extent, PoolSource};
use virt_model::storage::volume::{BackingStore, VolumeDevice, VolumeSource};
use virt_model::storage::{Pool, PoolType};

use super::{
    Backend, Content, Create, Cx, Overwrite, Source, block, failed, mounted, no_support, unsupported,
};
use crate::image::{qemu_img, raw};
use crate::pool::{Sizes, invalid};
use crate::volume::Volume;

/// `<pool type='logical'>`.
pub struct Logical;

fn group(pool: &Pool) -> Result<&str> {
    let name = pool.source.name.as_deref().unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || "+_.-".contains(c);
    match !name.is_empty() && !name.starts_with('-') && name.chars().all(good) && name != "." && name != ".."
    {
        true => Ok(name),
        false => Err(Error::internal(Domain::Storage, format!("invalid volume group name '{name}'"))),
    }
}

/// The group's devices: they become arguments.
fn devices(pool: &Pool) -> Result<Vec<&str>> {
    let devices: Vec<&str> = pool.source.devices.iter().map(|d| d.path.as_str()).collect();
    match devices.iter().find(|device| !device.starts_with('/')) {
        None => Ok(devices),
        Some(odd) => Err(Error::internal(Domain::Storage, format!("invalid device '{odd}'"))),
    }
}

fn run(cx: &Cx<'_>, program: &'static str, args: &[&str]) -> Result<Output> {
    cx.tools.run(&Run::new(program, Domain::Storage).args(args.iter().copied()).cancel(&cx.cancel))
}

/// The rows of a report in JSON: `{"report":[{"lv":[{..}]}]}`.
fn rows(output: &Output, table: &str) -> Result<Vec<Value>> {
    let bad = || Error::internal(Domain::Storage, "malformed report of LVM");
    let report: Value = serde_json::from_slice(&output.out).map_err(|e| bad().with_source(e))?;
    let rows = report["report"][0][table].as_array().ok_or_else(bad)?;
    Ok(rows.clone())
}

fn text<'v>(row: &'v Value, field: &str) -> &'v str {
    row[field].as_str().unwrap_or_default()
}

fn bytes(row: &Value, field: &str) -> Result<u64> {
    block::number(text(row, field), field)
}

const REPORT: [&str; 6] = ["--reportformat", "json", "--units", "b", "--nosuffix", "--unbuffered"];

fn group_sizes(cx: &Cx<'_>, pool: &Pool) -> Result<Sizes> {
    let mut args = REPORT.to_vec();
    args.extend(["--options", "vg_size,vg_free", group(pool)?]);
    let rows = rows(&run(cx, "vgs", &args)?, "vg")?;
    let row = rows.first().ok_or_else(|| Error::internal(Domain::Storage, "no such volume group"))?;
    let (capacity, available) = (bytes(row, "vg_size")?, bytes(row, "vg_free")?);
    Ok(Sizes { capacity, available, allocation: capacity.saturating_sub(available) })
}

/// One volume of one or several rows: a row is a segment.
fn volumes(pool: &Pool, rows: &[Value]) -> Result<Vec<Volume>> {
    let mut all: Vec<Volume> = Vec::new();
    for row in rows {
        let (name, attr) = (text(row, "lv_name").trim_matches(['[', ']']), text(row, "lv_attr"));
        // Pools of thin volumes, mirrors' parts and the like are no volumes.
        let inner = text(row, "lv_name").starts_with('[') || attr.starts_with(['t', 'e', 'l', 'i', 'I']);
        let inactive = attr.as_bytes().get(4) != Some(&b'a');
        if name.is_empty() || inner || inactive {
            continue;
        }
        let index = match all.iter().position(|v| v.name() == name) {
            Some(index) => index,
            None => {
                let size = bytes(row, "lv_size")?;
                let path = format!("{}/{name}", pool.path());
                let mut volume = block::told(name, &path, text(row, "lv_uuid"), None, (size, size));
                let origin = text(row, "origin").trim_matches(['[', ']']);
                if !origin.is_empty() {
                    let base = BackingStore {
                        path: Some(format!("{}/{origin}", pool.path())),
                        ..BackingStore::default()
                    };
                    volume.document.backing = Some(base);
                }
                all.push(volume);
                all.len() - 1
            }
        };
        extents(&mut all[index], row)?;
    }
    Ok(all)
}

/// Where a segment lies: "/dev/sda1(0),/dev/sdb1(0)", in extents of the group.
fn extents(volume: &mut Volume, row: &Value) -> Result<()> {
    let (unit, size) = (bytes(row, "vg_extent_size")?, bytes(row, "seg_size")?);
    for part in text(row, "devices").split(',') {
        let Some((path, start)) = part.strip_suffix(')').and_then(|p| p.rsplit_once('(')) else { continue };
        if !path.starts_with('/') {
            continue;
        }
        let start = block::number(start, "volume extent offset value")?.saturating_mul(unit);
        let extent = Extent { start, end: start.saturating_add(size) };
        let source = volume.document.source.get_or_insert_with(VolumeSource::default);
        match source.devices.iter_mut().find(|d| d.path == path) {
            Some(device) => device.extents.push(extent),
            None => source.devices.push(VolumeDevice { path: path.to_string(), extents: vec![extent] }),
        }
    }
    Ok(())
}

impl Backend for Logical {
    fn needs(&self) -> &'static [&'static str] {
        &[
            "pvs", "vgs", "lvs", "pvcreate", "pvremove", "vgcreate", "vgremove", "vgchange", "lvcreate",
            "lvremove",
        ]
    }

    fn is_active(&self, _: &Cx<'_>, pool: &Pool) -> Result<bool> {
        // The folder is there while a volume of the group is active.
        Ok(std::path::Path::new(pool.path()).is_dir())
    }

    fn start(&self, cx: &Cx<'_>, pool: &Pool) -> Result<()> {
        let name = group(pool)?;
        if !self.find_sources(cx, None)?.iter().any(|found| found.name.as_deref() == Some(name)) {
            return Err(unsupported(format!("cannot find logical volume group name '{name}'")));
        }
        run(cx, "vgchange", &["-aly", group(pool)?]).map(drop)
    }

    fn stop(&self, cx: &Cx<'_>, pool: &Pool) -> Result<()> {
        run(cx, "vgchange", &["-aln", group(pool)?]).map(drop)
    }

    fn build(&self, cx: &Cx<'_>, pool: &Pool, overwrite: Overwrite) -> Result<()> {
        let (group, devices) = (group(pool)?, devices(pool)?);
        if overwrite == Overwrite::No {
            devices.iter().try_for_each(|device| mounted::check_empty(cx.tools, device))?;
        }
        let mut made: Vec<&str> = Vec::new();
        let undo = |made: &[&str]| {
            for device in made {
                let _ = run(cx, "pvremove", &["-f", device]);
            }
        };
        for device in &devices {
            let mut args = vec!["--yes"];
            if overwrite == Overwrite::Yes {
                args.push("-ff");
            }
            args.push(device);
            run(cx, "pvcreate", &args).inspect_err(|_| undo(&made))?;
            made.push(device);
        }
        let mut args = vec![group];
        args.extend(&devices);
        run(cx, "vgcreate", &args).map(drop).inspect_err(|_| undo(&made))
    }

    fn delete(&self, cx: &Cx<'_>, pool: &Pool) -> Result<()> {
        let (group, devices) = (group(pool)?, devices(pool)?);
        run(cx, "vgremove", &["-f", group])?;
        devices.iter().try_for_each(|device| run(cx, "pvremove", &["-f", device]).map(drop))
    }

    fn refresh(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Content> {
        let mut args = REPORT.to_vec();
        let fields = "lv_name,origin,lv_uuid,devices,segtype,seg_size,vg_extent_size,lv_size,lv_attr";
        args.extend(["--options", fields, group(pool)?]);
        let rows = rows(&run(cx, "lvs", &args)?, "lv")?;
        Ok(Content { sizes: group_sizes(cx, pool)?, volumes: volumes(pool, &rows)?, ..Content::default() })
    }

    fn sizes(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Sizes> {
        group_sizes(cx, pool)
    }

    fn place(&self, pool: &Pool, name: &str) -> Result<(String, String)> {
        crate::paths::check_name(pool.kind, name)?;
        let path = format!("{}/{name}", pool.path());
        // The key is LVM's own, known once the volume is there.
        Ok((path.clone(), path))
    }

    fn create(&self, cx: &Cx<'_>, pool: &Pool, create: &Create<'_>) -> Result<Volume> {
        let wanted = create.wanted;
        if wanted.target.encryption.is_some() {
            return Err(unsupported("storage pool does not support encrypted volumes"));
        }
        let kib = |bytes: u64| format!("{}K", bytes.div_ceil(1024));
        let (capacity, allocation) =
            (wanted.capacity.map_or(0, |b| b.0), wanted.allocation.map_or(0, |b| b.0));
        let name = wanted.name();
        let (size, whole) = (kib(if allocation == 0 { capacity } else { allocation }), kib(capacity));
        let mut args = vec!["--name", name, "-L", size.as_str()];
        // LVM takes neither a size of its own nor the question about signatures for a snapshot, and no question about
        // signatures for a sparse volume, which is a snapshot of nothing.
        match wanted.backing_path() {
            Some(base) if !base.starts_with('/') => {
                return Err(Error::internal(Domain::Storage, format!("invalid base '{base}' of a snapshot")));
            }
            Some(base) => args.extend(["-s", base]),
            None if allocation != 0 && allocation != capacity => {
                args.extend(["--type", "snapshot", "--virtualsize", whole.as_str(), group(pool)?]);
            }
            None => args.extend([group(pool)?, "--wipesignatures", "y"]),
        }
        args.push("--yes");
        run(cx, "lvcreate", &args)?;
        let remove = || {
            let _ = run(cx, "lvremove", &["-f", &format!("{}/{name}", pool.path())]);
        };
        let path = PathBuf::from(format!("{}/{name}", pool.path()));
        if let Some(source) = create.from {
            fill(cx, source, &path).inspect_err(|_| remove())?;
        }
        let found = self.refresh(cx, pool).inspect_err(|_| remove())?;
        let made = found.volumes.into_iter().find(|v| v.name() == name);
        made.ok_or_else(|| Error::internal(Domain::Storage, "the new volume is not in the group"))
    }

    fn delete_volume(&self, cx: &Cx<'_>, pool: &Pool, volume: &Volume, _: u32) -> Result<()> {
        crate::paths::check_name(pool.kind, volume.name())?;
        run(cx, "lvremove", &["-f", &format!("{}/{}", group(pool)?, volume.name())]).map(drop)
    }

    fn finds_sources(&self, _: PoolType) -> bool {
        true
    }

    fn find_sources(&self, cx: &Cx<'_>, _: Option<&PoolSource>) -> Result<Vec<PoolSource>> {
        let args = ["--reportformat", "json", "--options", "pv_name,vg_name"];
        let mut found: Vec<PoolSource> = Vec::new();
        for row in rows(&run(cx, "pvs", &args)?, "pv")? {
            let (device, group) = (text(&row, "pv_name"), text(&row, "vg_name"));
            if group.is_empty() {
                continue;
            }
            let device = Device { path: device.to_string(), ..Device::default() };
            match found.iter_mut().find(|s| s.name.as_deref() == Some(group)) {
                Some(source) => source.devices.push(device),
                None => found.push(PoolSource {
                    name: Some(group.to_string()),
                    format: Some("lvm2".to_string()),
                    devices: vec![device],
                    ..PoolSource::default()
                }),
            }
        }
        Ok(found)
    }
}

/// Copies a source's bytes onto a new device.
pub(super) fn fill(cx: &Cx<'_>, source: &Source, to: &std::path::Path) -> Result<()> {
    let from = source.content()?;
    let from = from.as_path();
    let image = source.volume.format() != "raw" || source.volume.document.target.encryption.is_some();
    if image && source.volume.kind() == virt_model::storage::VolumeType::File {
        return qemu_img::fill(cx, (from, &source.volume.document), to);
    }
    if !matches!(
        source.volume.kind(),
        virt_model::storage::VolumeType::File | virt_model::storage::VolumeType::Block
    ) {
        return Err(no_support("storage pool does not support volume creation from an existing volume"));
    }
    let reading = std::fs::File::open(from).map_err(failed("could not open input path", from))?;
    let writing = std::fs::OpenOptions::new().read(true).write(true).open(to);
    let writing = writing.map_err(failed("could not open output path", to))?;
    if block::size(to)? < source.volume.capacity() {
        return Err(invalid("the new volume is smaller than its source"));
    }
    raw::copy(&reading, from, &writing, to, false, cx)?;
    writing.sync_all().map_err(failed("cannot sync data to file", to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::NoKeys;
    use virt_host::tool::{Cancel, RecordedTools};

    const VGS: &str = r#"{"report":[{"vg":[{"vg_size":"1069547520","vg_free":"1048576000"}]}]}"#;
    const LVS: &str = r#"{"report":[{"lv":[
        {"lv_name":"data","origin":"","lv_uuid":"r4xkCv-MQhr","devices":"/dev/sda2(7496)","segtype":"linear",
         "seg_size":"8388608","vg_extent_size":"4194304","lv_size":"12582912","lv_attr":"-wi-a-----"},
        {"lv_name":"data","origin":"","lv_uuid":"r4xkCv-MQhr","devices":"/dev/sdb1(0)","segtype":"linear",
         "seg_size":"4194304","vg_extent_size":"4194304","lv_size":"12582912","lv_attr":"-wi-a-----"},
        {"lv_name":"snap","origin":"data","lv_uuid":"aaaa","devices":"/dev/sda2(1)","segtype":"linear",
         "seg_size":"4194304","vg_extent_size":"4194304","lv_size":"12582912","lv_attr":"swi-a-s---"},
        {"lv_name":"thin","origin":"","lv_uuid":"bbbb","devices":"thin_tdata(0)","segtype":"thin-pool",
         "seg_size":"4194304","vg_extent_size":"4194304","lv_size":"4194304","lv_attr":"twi-a-tz--"}]}]}"#;

    fn said(text: &str) -> Output {
        Output { out: text.as_bytes().to_vec(), ..Output::default() }
    }

    fn pool() -> Pool {
        Pool::parse("<pool type='logical'><name>VG</name><source><device path='/dev/sda2'/></source></pool>")
            .unwrap()
    }

    #[test]
    fn a_group_is_read() {
        let lvs = "lvs --reportformat json --units b --nosuffix --unbuffered --options \
                   lv_name,origin,lv_uuid,devices,segtype,seg_size,vg_extent_size,lv_size,lv_attr VG";
        let vgs = "vgs --reportformat json --units b --nosuffix --unbuffered --options vg_size,vg_free VG";
        let tools = RecordedTools::new([(lvs.to_string(), said(LVS)), (vgs.to_string(), said(VGS))]);
        let found = Logical.refresh(&Cx::new(&tools, &NoKeys, Cancel::default()), &pool()).unwrap();
        assert_eq!((found.sizes.capacity, found.sizes.allocation), (1_069_547_520, 20_971_520));
        let names: Vec<_> = found.volumes.iter().map(|v| (v.name(), v.path(), v.capacity())).collect();
        assert_eq!(names, [("data", "/dev/VG/data", 12_582_912), ("snap", "/dev/VG/snap", 12_582_912)]);
        let source = found.volumes[0].document.source.as_ref().unwrap();
        assert_eq!(source.devices.len(), 2);
        assert_eq!(source.devices[0].extents[0], Extent { start: 31_440_502_784, end: 31_448_891_392 });
        assert_eq!(found.volumes[1].document.backing_path(), Some("/dev/VG/data"));
        assert!(tools.left().is_empty());
    }

    #[test]
    fn building_takes_back_what_it_did() {
        let failed = Output { status: 5, ..Output::default() };
        let tools = RecordedTools::new([
            ("pvcreate --yes /dev/sda2".to_string(), Output::default()),
            ("vgcreate VG /dev/sda2".to_string(), failed),
            ("pvremove -f /dev/sda2".to_string(), Output::default()),
        ]);
        let cx = Cx::new(&tools, &NoKeys, Cancel::default());
        assert!(Logical.build(&cx, &pool(), Overwrite::Unsaid).is_err());
        assert!(tools.left().is_empty(), "{:?}", tools.left());
    }

    #[test]
    fn any_report_is_survived() {
        for report in ["", "{}", "[]", r#"{"report":[]}"#, r#"{"report":[{"lv":[{"lv_name":5}]}]}"#] {
            let rows = rows(&said(report), "lv");
            let _ = rows.map(|rows| volumes(&pool(), &rows));
        }
    }
}

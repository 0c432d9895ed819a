//! Pools that are one disk: its partitions are the volumes.

use std::path::Path;

use virt_error::{Domain, Error, Result};
use virt_host::tool::Run;
use virt_model::storage::Pool;
use virt_model::storage::source::Extent;
use virt_model::storage::volume::{VolumeDevice, VolumeSource};

use super::{
    Backend, Content, Create, Cx, Overwrite, Room, block, logical, mounted, no_support, unsupported,
};
use crate::pool::{Sizes, invalid};
use crate::volume::Volume;

/// Partitions begin at such borders.
const ALIGN: u64 = 1 << 20;

/// `<pool type='disk'>`.
pub struct Disk;

fn device(pool: &Pool) -> Result<&str> {
    let path = pool.source.device().unwrap_or_default();
    match path.starts_with('/') {
        true => Ok(path),
        false => Err(Error::internal(Domain::Storage, format!("invalid device '{path}'"))),
    }
}

/// What stands on a disk.
#[derive(Debug, Default, PartialEq)]
struct Table {
    label: String,
    size: u64,
    parts: Vec<(u32, Extent)>,
    free: Vec<Extent>,
}

/// parted's form for programs: fields with colons, lines with semicolons.
fn parse(text: &str) -> Result<Table> {
    let bad = || Error::internal(Domain::Storage, "malformed output of parted");
    let mut lines = text.lines().map(|l| l.trim_end_matches(';'));
    if lines.next() != Some("BYT") {
        return Err(bad());
    }
    // The path may hold colons: counted from the end.
    let head: Vec<&str> = lines.next().ok_or_else(bad)?.split(':').collect();
    let at = |n: usize| head.len().checked_sub(n).and_then(|i| head.get(i)).copied().ok_or_else(bad);
    let mut table = Table {
        label: at(3)?.to_string(),
        size: block::number(at(7)?, "size of a disk")?,
        ..Table::default()
    };
    for line in lines {
        let fields: Vec<&str> = line.split(':').collect();
        let [number, start, end, ..] = fields[..] else { continue };
        let start = block::number(start, "start of a partition")?;
        let end = block::number(end, "end of a partition")?.saturating_add(1);
        let extent = Extent { start, end };
        match fields.get(4) {
            Some(&"free") => table.free.push(extent),
            _ => table.parts.push((number.parse().map_err(|_| bad())?, extent)),
        }
    }
    Ok(table)
}

fn table(cx: &Cx<'_>, device: &str) -> Result<Table> {
    let run = Run::new("parted", Domain::Storage).args(["-m", "-s", device, "unit", "B", "print", "free"]);
    parse(&cx.tools.run(&run.cancel(&cx.cancel))?.text())
}

/// The path of a partition: "p" stands before the number when the disk's own name ends in one.
fn partition(pool: &Pool, device: &str, number: u32) -> String {
    let device = match pool.source.devices.first().and_then(|d| d.part_separator) {
        Some(true) => format!("{device}p"),
        Some(false) => device.to_string(),
        None if device.ends_with(|c: char| c.is_ascii_digit()) => format!("{device}p"),
        None => device.to_string(),
    };
    format!("{device}{number}")
}

fn content(pool: &Pool, table: &Table) -> Result<Content> {
    let device = device(pool)?;
    let volumes: Vec<Volume> = table
        .parts
        .iter()
        .map(|(number, extent)| {
            let own = partition(pool, device, *number);
            let name = own.rsplit('/').next().unwrap_or_default().to_string();
            let path = block::stable(pool.path(), &own);
            let size = extent.end.saturating_sub(extent.start);
            let mut volume = block::told(&name, &path, &path, Some("none"), (size, size));
            let part = VolumeDevice { path: device.to_string(), extents: vec![*extent] };
            volume.document.source = Some(VolumeSource { devices: vec![part] });
            volume
        })
        .collect();
    let taken = block::sum(&volumes).capacity;
    let free: Vec<Extent> = table.free.iter().copied().filter(|e| e.end - e.start >= ALIGN).collect();
    let available = free.iter().map(|e| e.end - e.start).sum();
    let sizes = Sizes { capacity: table.size, allocation: taken, available };
    Ok(Content { sizes, volumes, free, ..Content::default() })
}

/// The first free place of this size, at a border that disks like.
fn room(free: &[Extent], size: u64) -> Option<Extent> {
    free.iter().find_map(|e| {
        let start = e.start.max(ALIGN).next_multiple_of(ALIGN);
        let end = start.checked_add(size.max(1).next_multiple_of(512))?;
        (end <= e.end).then_some(Extent { start, end })
    })
}

fn label(pool: &Pool) -> &str {
    match pool.source.format.as_deref() {
        // What is not said becomes what the reference makes of it.
        None | Some("unknown" | "dos") => "msdos",
        Some(other) => other,
    }
}

impl Backend for Disk {
    fn needs(&self) -> &'static [&'static str] {
        &["parted", "udevadm"]
    }

    fn is_active(&self, _: &Cx<'_>, pool: &Pool) -> Result<bool> {
        Ok(Path::new(device(pool)?).exists())
    }

    fn start(&self, cx: &Cx<'_>, pool: &Pool) -> Result<()> {
        settle(cx);
        let device = device(pool)?;
        if !Path::new(device).exists() {
            let text = format!("device path '{device}' doesn't exist");
            return Err(Error::new(virt_error::Code::InvalidArg, Domain::Storage, text));
        }
        let found = table(cx, device)?.label;
        let known = pool.source.format.as_deref().unwrap_or("unknown");
        if known != "unknown" && found != label(pool) {
            let text = format!("Storage pool label '{known}' does not match the disk's '{found}'");
            return Err(Error::new(virt_error::Code::OperationFailed, Domain::Storage, text));
        }
        Ok(())
    }

    fn build(&self, cx: &Cx<'_>, pool: &Pool, overwrite: Overwrite) -> Result<()> {
        let (device, label) = (device(pool)?, label(pool));
        if label == "lvm2" {
            return Err(unsupported("a disk with label 'lvm2' is made by LVM"));
        }
        if overwrite != Overwrite::Yes {
            mounted::check_empty(cx.tools, device)?;
        }
        let run = Run::new("parted", Domain::Storage).args([device, "mklabel", "--script", label]);
        cx.tools.run(&run.cancel(&cx.cancel)).map(drop)
    }

    fn refresh(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Content> {
        settle(cx);
        content(pool, &table(cx, device(pool)?)?)
    }

    fn sizes(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Sizes> {
        Ok(content(pool, &table(cx, device(pool)?)?)?.sizes)
    }

    fn room(&self, cx: &Cx<'_>, pool: &Pool) -> Room {
        let now = device(pool).and_then(|device| content(pool, &table(cx, device)?));
        now.map(|now| Room { sizes: Some(now.sizes), free: now.free }).unwrap_or_default()
    }

    fn place(&self, pool: &Pool, name: &str) -> Result<(String, String)> {
        crate::paths::check_name(pool.kind, name)?;
        let disk = device(pool)?.rsplit('/').next().unwrap_or_default();
        let number = name.strip_prefix(disk).map(|n| n.strip_prefix('p').unwrap_or(n));
        if number.is_none_or(|n| n.parse::<u32>().is_err()) {
            let text = format!("invalid partition name '{name}', expected '{disk}' followed by its number");
            return Err(Error::new(virt_error::Code::InvalidArg, Domain::Storage, text));
        }
        let path = format!("{}/{name}", pool.path());
        Ok((path.clone(), path))
    }

    fn create(&self, cx: &Cx<'_>, pool: &Pool, create: &Create<'_>) -> Result<Volume> {
        let wanted = create.wanted;
        if wanted.target.encryption.is_some() {
            return Err(no_support("encrypted partitions"));
        }
        if wanted.target.format.as_deref() == Some("extended") {
            return Err(no_support("extended partitions"));
        }
        let device = device(pool)?;
        let before = table(cx, device)?;
        let capacity = wanted.capacity.map_or(0, |b| b.0);
        let Some(place) = room(&before.free, capacity) else {
            return Err(Error::internal(Domain::Storage, "no large enough free extent"));
        };
        let (start, end) = (format!("{}B", place.start), format!("{}B", place.end - 1));
        let run = Run::new("parted", Domain::Storage);
        let run = run.args([device, "mkpart", "--script", "primary", start.as_str(), end.as_str()]);
        cx.tools.run(&run.cancel(&cx.cancel))?;
        settle(cx);
        let after = table(cx, device)?;
        let new = after.parts.iter().find(|(n, _)| !before.parts.iter().any(|(old, _)| old == n));
        let (number, _) =
            new.ok_or_else(|| Error::internal(Domain::Storage, "the new partition is not there"))?;
        let name = partition(pool, device, *number);
        let name = name.rsplit('/').next().unwrap_or_default();
        let made = content(pool, &after)?.volumes.into_iter().find(|v| v.name() == name);
        let remove = || {
            let number = number.to_string();
            let run = Run::new("parted", Domain::Storage).args([device, "rm", "--script", number.as_str()]);
            let _ = cx.tools.run(&run);
        };
        if name != wanted.name() {
            remove();
            let text = format!("invalid partition name '{}', expected '{name}'", wanted.name());
            return Err(Error::new(virt_error::Code::InvalidArg, Domain::Storage, text));
        }
        let made = made.ok_or_else(|| Error::internal(Domain::Storage, "the new partition is not there"))?;
        if let Some(source) = create.from {
            logical::fill(cx, source, Path::new(made.path())).inspect_err(|_| remove())?;
        }
        Ok(made)
    }

    fn delete_volume(&self, cx: &Cx<'_>, pool: &Pool, volume: &Volume, _: u32) -> Result<()> {
        let device = device(pool)?;
        let found = table(cx, device)?;
        let own = |number: &u32| partition(pool, device, *number).rsplit('/').next() == Some(volume.name());
        let Some((number, _)) = found.parts.iter().find(|(n, _)| own(n)) else {
            return Err(invalid(format!("'{}' is no partition of '{device}'", volume.name())));
        };
        let number = number.to_string();
        let run = Run::new("parted", Domain::Storage).args([device, "rm", "--script", number.as_str()]);
        cx.tools.run(&run.cancel(&cx.cancel))?;
        settle(cx);
        Ok(())
    }
}

/// Waits until the device manager has made the nodes of what changed.
pub(super) fn settle(cx: &Cx<'_>) {
    let run = Run::new("udevadm", Domain::Storage).args(["settle", "--timeout=10"]);
    if let Err(error) = cx.tools.run(&run) {
        tracing::debug!(?error, "the device manager does not settle");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "BYT;\n/dev/loop1:67108864B:loopback:512:512:gpt:Loopback device:;\n\
        1:17408B:1048575B:1031168B:free;\n1:1048576B:11534335B:10485760B::primary:;\n\
        1:11534336B:67091967B:55557632B:free;\n";

    fn pool(device: &str) -> Pool {
        let xml = format!(
            "<pool type='disk'><name>p</name><source><device path='{device}'/><format type='gpt'/></source>\
             <target><path>/dev</path></target></pool>"
        );
        Pool::parse(&xml).unwrap()
    }

    #[test]
    fn a_disk_is_read() {
        let table = parse(SAID).unwrap();
        assert_eq!((table.label.as_str(), table.size, table.parts.len()), ("gpt", 67_108_864, 1));
        let found = content(&pool("/dev/loop1"), &table).unwrap();
        assert_eq!(found.volumes[0].name(), "loop1p1");
        assert_eq!(found.free, [Extent { start: 11_534_336, end: 67_091_968 }]);
        assert_eq!(room(&table.free, 1 << 20), Some(Extent { start: 11_534_336, end: 12_582_912 }));
        assert_eq!(room(&table.free, 1 << 30), None);
        assert_eq!(partition(&pool("/dev/sda"), "/dev/sda", 3), "/dev/sda3");
    }

    #[test]
    fn any_output_is_survived() {
        for said in ["", "BYT;", "BYT;\n;", "BYT;\na:b:c\n1:2:3", "BYT;\n/d:5B:x:1:1:gpt:m:\n1:xB:2B:;"] {
            let _ = parse(said);
        }
    }

    #[test]
    fn names_of_partitions() {
        assert!(Disk.place(&pool("/dev/sda"), "sda1").is_ok());
        for bad in ["sdb1", "sda", "x", "sda1/../x"] {
            assert!(Disk.place(&pool("/dev/sda"), bad).is_err(), "{bad}");
        }
    }
}

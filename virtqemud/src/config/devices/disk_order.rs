//! Where a new disk goes in the list: after the disks of its bus with a lower target, as the reference sorts them.

use virt_model::domain::disk::Disk;

/// The place of a target name on its bus: "vda" is 0, "sdaa" 26. `None` for a name that is none.
pub fn target_index(dev: &str) -> Option<u32> {
    let letters = ["fd", "hd", "vd", "sd", "xvd", "ubd"].iter().find_map(|p| dev.strip_prefix(p))?;
    let letters = letters.trim_end_matches(|c: char| c.is_ascii_digit());
    if letters.is_empty() || !letters.bytes().all(|b| b.is_ascii_lowercase()) {
        return None;
    }
    let step = |n: u32, b: u8| n.checked_mul(26)?.checked_add(u32::from(b - b'a') + 1);
    letters.bytes().try_fold(0, step).and_then(|n| n.checked_sub(1))
}

/// Inserts the disk in its place.
pub fn insert(disks: &mut Vec<Disk>, disk: Disk) {
    let index = |d: &Disk| d.target.dev.as_deref().and_then(target_index);
    let same_bus = |d: &Disk| d.target.bus == disk.target.bus;
    let before = |d: &Disk| same_bus(d) && index(d) <= index(&disk);
    let after_last = disks.iter().rposition(before).map(|at| at + 1);
    let at = after_last.or_else(|| disks.iter().position(same_bus)).unwrap_or(disks.len());
    disks.insert(at, disk);
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_model::domain::disk::DiskBus;

    #[test]
    fn names_are_numbers() {
        for (name, want) in [
            ("vda", Some(0)),
            ("sdz", Some(25)),
            ("sdaa", Some(26)),
            ("hdc1", Some(2)),
            ("x", None),
            ("vd", None),
        ] {
            assert_eq!(target_index(name), want, "{name}");
        }
    }

    #[test]
    fn disks_of_a_bus_stay_sorted() {
        let disk = |dev: &str, bus| {
            let mut d = Disk::default();
            d.target.dev = Some(dev.to_string());
            d.target.bus = Some(bus);
            d
        };
        let mut disks =
            vec![disk("hdc", DiskBus::Ide), disk("vda", DiskBus::Virtio), disk("vdc", DiskBus::Virtio)];
        insert(&mut disks, disk("vdb", DiskBus::Virtio));
        insert(&mut disks, disk("hda", DiskBus::Ide));
        insert(&mut disks, disk("sda", DiskBus::Scsi));
        let names: Vec<_> = disks.iter().filter_map(|d| d.target.dev.as_deref()).collect();
        assert_eq!(names, ["hda", "hdc", "vda", "vdb", "vdc", "sda"]);
    }
}

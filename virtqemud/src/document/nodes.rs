//! Numbers of block nodes in a running guest.

use super::types::{BackingStore, Disk, DiskBus, Domain};

/// Numbers every image: the last disk first, each image before what lies under it.
pub fn number_images(def: &mut Domain) {
    let mut next = 1;
    for disk in def.devices.disks.iter_mut().rev().filter(|d| d.target.bus != Some(DiskBus::Sd)) {
        disk.source.common_mut().index = Some(next);
        next += 1;
        if let Some(store) = disk.source.common_mut().data_store.as_mut() {
            store.source.common_mut().index = Some(next);
            next += 1;
        }
        number_backing(disk.backing.as_deref_mut(), &mut next);
        next += disk.throttlefilters.filters.len() as u32;
    }
}

fn number_backing(backing: Option<&mut BackingStore>, next: &mut u32) {
    let mut backing = backing;
    while let Some(image) = backing {
        if let Some(source) = &mut image.source {
            image.index = Some(*next);
            *next += 1;
            if let Some(store) = source.common_mut().data_store.as_mut() {
                store.source.common_mut().index = Some(*next);
                *next += 1;
            }
        }
        backing = image.backing.as_deref_mut();
    }
}

/// The number of the next image of a running guest.
pub fn next_index(live: &Domain) -> u32 {
    let last = |disk: &Disk| last_index(disk) + disk.throttlefilters.filters.len() as u32;
    live.devices.disks.iter().map(last).max().unwrap_or(0) + 1
}

/// The largest number used by a disk's images; its filters follow.
pub fn last_index(disk: &Disk) -> u32 {
    let mut last = disk.source.common().index.unwrap_or(0);
    if let Some(store) = &disk.source.common().data_store {
        last = last.max(store.source.common().index.unwrap_or(0));
    }
    let mut backing = disk.backing.as_deref();
    while let Some(image) = backing {
        last = last.max(image.index.unwrap_or(0));
        if let Some(source) = &image.source
            && let Some(store) = &source.common().data_store
        {
            last = last.max(store.source.common().index.unwrap_or(0));
        }
        backing = image.backing.as_deref();
    }
    last
}

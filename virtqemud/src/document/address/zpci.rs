//! The two extra numbers of PCI devices on IBM Z: a user's number from 1, a function's from 0.

use std::collections::BTreeSet;

use virt_error::Result;

use crate::document::types::{Address, DeviceInfo, Domain};
use crate::document::{machine, xml_error};

/// Largest user number.
const MOST: u32 = 0xffff;

pub(super) fn assign(def: &mut Domain) -> Result<()> {
    if !machine::is_s390(def.os.kind.machine.as_deref().unwrap_or_default()) {
        return Ok(());
    }
    let (mut uids, mut fids) = (BTreeSet::new(), BTreeSet::new());
    let mut wrong = None;
    super::pci_infos(def, &mut |info| {
        let Some(Address::Pci(a)) = &info.address else { return };
        if let Some(uid) = a.zpci.uid {
            if uid == 0 || uid > MOST {
                wrong.get_or_insert(format!(
                    "Invalid PCI address uid='0x{uid:04x}', must be > 0x0000 and <= 0xffff"
                ));
            } else if !uids.insert(uid) {
                wrong.get_or_insert(format!("zPCI uid {uid:#x} is already reserved"));
            }
        }
        if let Some(fid) = a.zpci.fid
            && !fids.insert(fid)
        {
            wrong.get_or_insert(format!("zPCI fid {fid:#x} is already reserved"));
        }
    });
    if let Some(text) = wrong {
        return Err(xml_error(text));
    }
    super::pci_infos(def, &mut |info| number(info, &mut uids, &mut fids));
    Ok(())
}

fn number(info: &mut DeviceInfo, uids: &mut BTreeSet<u32>, fids: &mut BTreeSet<u32>) {
    let Some(Address::Pci(a)) = &mut info.address else { return };
    let free = |used: &mut BTreeSet<u32>, from: u32| {
        let n = (from..=MOST).find(|n| !used.contains(n))?;
        used.insert(n);
        Some(n)
    };
    if a.zpci.uid.is_none() {
        a.zpci.uid = free(uids, 1);
    }
    if a.zpci.fid.is_none() {
        a.zpci.fid = free(fids, 0);
    }
}

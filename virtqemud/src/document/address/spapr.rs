//! Registers of PowerPC's virtual I/O bus.

use std::collections::BTreeSet;

use crate::document::types::{
    Address, ControllerKind, DeviceInfo, Domain, SerialTarget, SpaprVioAddress, TpmModel,
};

/// Where each kind of device starts, and the step to the next free register.
const CARD: u64 = 0x1000;
const SCSI: u64 = 0x2000;
const NVRAM: u64 = 0x3000;
const TPM: u64 = 0x4000;
const SERIAL: u64 = 0x3000_0000;
const STEP: u64 = 0x1000;

pub(super) fn assign(def: &mut Domain) {
    let mut used = BTreeSet::new();
    visit(def, &mut |info, _| {
        if let Some(Address::SpaprVio(SpaprVioAddress { reg: Some(reg) })) = &info.address {
            used.insert(*reg);
        }
    });
    visit(def, &mut |info, first| {
        if !matches!(info.address, None | Some(Address::SpaprVio(SpaprVioAddress { reg: None }))) {
            return;
        }
        let mut reg = first;
        while used.contains(&reg) {
            reg += STEP;
        }
        used.insert(reg);
        info.address = Some(Address::SpaprVio(SpaprVioAddress { reg: Some(reg) }));
    });
}

fn visit(def: &mut Domain, act: &mut dyn FnMut(&mut DeviceInfo, u64)) {
    let d = &mut def.devices;
    for net in d.interfaces.iter_mut().filter(|n| n.model.as_deref() == Some("spapr-vlan")) {
        act(&mut net.info, CARD);
    }
    for c in &mut d.controllers {
        if c.kind == ControllerKind::Scsi && c.model.as_deref() == Some("ibmvscsi") {
            act(&mut c.info, SCSI);
        }
    }
    for serial in d.serials.iter_mut().filter(|s| s.target.kind == Some(SerialTarget::SpaprVio)) {
        act(&mut serial.info, SERIAL);
    }
    for tpm in d.tpms.iter_mut().filter(|t| t.model == Some(TpmModel::Spapr)) {
        act(&mut tpm.info, TPM);
    }
    if let Some(nvram) = &mut d.nvram {
        act(&mut nvram.info, NVRAM);
    }
}

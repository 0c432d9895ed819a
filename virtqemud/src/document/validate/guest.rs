//! Features, timers, vcpus and firmware settings of the guest as a whole.

use virt_error::{Code, Domain as From, Error, Result};

use super::{Checker, unsupported};
use crate::document::types::{TickPolicy, Timer, TimerName, VirtType};
use crate::document::{machine, vcpus, xml_detail, xml_error};

impl Checker<'_> {
    pub(super) fn guest(&self) -> Result<()> {
        self.features()?;
        self.timers()?;
        self.vcpus()?;
        let resctrl = !self.def.cputune.cachetunes.is_empty() || !self.def.cputune.memorytunes.is_empty();
        if resctrl && self.def.virt_type != VirtType::Kvm {
            return Err(unsupported("cachetune is only supported for KVM domains"));
        }
        if let Some(s) = self.def.sysinfo.iter().find_map(smbios) {
            bios_date(s)?;
            if let Some(text) = s.system.get("uuid") {
                let same = virt_model::Uuid::parse_str(text.trim()).ok() == self.def.uuid;
                if !same {
                    return Err(xml_detail("UUID mismatch between <uuid> and <sysinfo>"));
                }
            }
        }
        Ok(())
    }

    fn refuse_feature(&self, name: &str) -> Result<()> {
        Err(unsupported(format!(
            "The '{name}' feature is not supported for architecture '{}' or machine type '{}'",
            self.arch(),
            self.machine
        )))
    }

    fn features(&self) -> Result<()> {
        let f = &self.def.features;
        let x86 = machine::is_x86(self.arch());
        let pseries = machine::is_pseries(self.machine);
        let only = |present: bool, allowed: bool, name: &str| {
            if present && !allowed { self.refuse_feature(name) } else { Ok(()) }
        };
        only(f.hpt.is_some(), pseries, "hpt")?;
        only(f.htm.is_some(), pseries, "htm")?;
        only(f.nested_hv.is_some(), pseries, "nested-hv")?;
        only(f.ccf_assist.is_some(), pseries, "ccf-assist")?;
        only(f.cfpc.is_some(), pseries, "cfpc")?;
        only(f.sbbc.is_some(), pseries, "sbbc")?;
        only(f.ibs.is_some(), pseries, "ibs")?;
        only(
            f.gic.as_ref().is_some_and(|g| g.version.is_some()),
            machine::is_arm_virt(self.arch(), self.machine),
            "gic",
        )?;
        only(f.ras.is_some(), machine::is_arm_virt(self.arch(), self.machine), "ras")?;
        only(f.aia.is_some(), machine::is_riscv_virt(self.arch(), self.machine), "aia")?;
        only(f.smm.is_some(), x86, "smm")?;
        only(f.ps2.is_some(), x86, "ps2")?;
        only(f.vmport.is_some(), x86, "vmport")?;
        only(f.ioapic.is_some_and(|i| i != crate::document::types::IoapicDriver::None), x86, "ioapic")?;
        only(f.hyperv.is_some(), x86 || machine::is_arm(self.arch()), "hyperv")?;
        if f.xen.is_some() || f.privnet {
            let name = if f.privnet { "privnet" } else { "xen" };
            return Err(unsupported(format!("The '{name}' feature is not supported by QEMU")));
        }
        let ps2_off = f.ps2.as_ref().is_some_and(|s| s.state == Some(false));
        if ps2_off && f.vmport.as_ref().is_some_and(|s| s.state == Some(true)) {
            return Err(unsupported("vmport feature requires the ps2 feature not to be disabled"));
        }
        if let Some(tseg) = f.smm.as_ref().and_then(|s| s.tseg) {
            if !machine::is_q35(self.machine) {
                return Err(unsupported("SMM TSEG is only supported with q35 machine type"));
            }
            if tseg.bytes % (1 << 20) != 0 {
                return Err(unsupported("SMM TSEG size must be divisible by 1 MiB"));
            }
        }
        if f.async_teardown.is_some() && !self.emulator.at_least(8, 0) {
            return Err(unsupported("asynchronous teardown is not available with this QEMU binary"));
        }
        if f.kvm.as_ref().and_then(|k| k.dirty_ring.as_ref()).is_some_and(|d| d.state) {
            let size = f.kvm.as_ref().and_then(|k| k.dirty_ring.as_ref()).and_then(|d| d.size).unwrap_or(0);
            if !size.is_power_of_two() || !(1024..=65536).contains(&size) {
                return Err(unsupported("dirty ring must be power of 2 and ranges [1024, 65536]"));
            }
        }
        if f.tcg.is_some() && self.def.virt_type != VirtType::Qemu {
            return Err(unsupported("tcg features are incompatible with domain type"));
        }
        if f.hyperv.is_some() {
            self.hyperv()?;
        }
        Ok(())
    }

    fn hyperv(&self) -> Result<()> {
        let Some(h) = &self.def.features.hyperv else { return Ok(()) };
        if h.mode != crate::document::types::HypervMode::Custom {
            return Ok(());
        }
        let on = |s: &Option<crate::document::types::Switch>| s.as_ref().is_some_and(|s| s.on());
        let need = |wants: bool, has: bool, what: &str, needs: &str| {
            if wants && !has {
                return Err(unsupported(format!("'{what}' hyperv feature requires '{needs}' feature")));
            }
            Ok(())
        };
        let stimer = h.stimer.as_ref().is_some_and(|s| s.state);
        need(on(&h.synic), on(&h.vpindex), "synic", "vpindex")?;
        need(stimer, on(&h.synic), "stimer", "synic")?;
        if let Some(spin) = &h.spinlocks
            && spin.state
            && spin.retries.is_some_and(|r| r < 0xfff)
        {
            return Err(Error::new(
                Code::XmlError,
                From::Domain,
                "HyperV spinlock retry count must be at least 4095",
            ));
        }
        let vendor = h.vendor_id.as_ref().filter(|v| v.state).and_then(|v| v.value.as_ref());
        if let Some(vendor) = vendor {
            if vendor.len() > 12 {
                return Err(super::super::xml_error(
                    "HyperV vendor_id value must not be more than 12 characters",
                ));
            }
            if vendor.contains(',') {
                return Err(crate::document::xml_error("HyperV vendor_id value is invalid"));
            }
        }
        Ok(())
    }

    fn timers(&self) -> Result<()> {
        let Some(clock) = &self.def.clock else { return Ok(()) };
        let x86 = machine::is_x86(self.arch());
        for timer in &clock.timers {
            if timer.catchup != Default::default() && timer.tickpolicy != Some(TickPolicy::Catchup) {
                return Err(xml_error(
                    "setting of timer catchup policies is only supported with tickpolicy='catchup'",
                ));
            }
            match timer.name {
                TimerName::Platform => {
                    return Err(unsupported(format!("unsupported timer type (name) '{}'", timer.name)));
                }
                TimerName::Tsc | TimerName::Kvmclock | TimerName::Hypervclock if !x86 => {
                    return Err(unsupported(format!(
                        "Configuring the '{}' timer is not supported for virtType={} arch={} machine={} guests",
                        timer.name,
                        self.def.virt_type,
                        self.arch(),
                        self.machine
                    )));
                }
                TimerName::Armvtimer if !machine::is_arm_virt(self.arch(), self.machine) => {
                    return Err(unsupported(format!(
                        "Configuring the '{}' timer is not supported for virtType={} arch={} machine={} guests",
                        timer.name,
                        self.def.virt_type,
                        self.arch(),
                        self.machine
                    )));
                }
                TimerName::Kvmclock | TimerName::Hypervclock if timer.tickpolicy.is_some() => {
                    return Err(unsupported(format!(
                        "timer {} doesn't support setting of timer tickpolicy",
                        timer.name
                    )));
                }
                TimerName::Rtc => self.tick(timer, &[TickPolicy::Delay, TickPolicy::Catchup], "rtc")?,
                TimerName::Pit => {
                    self.tick(timer, &[TickPolicy::Delay, TickPolicy::Catchup, TickPolicy::Discard], "pit")?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn tick(&self, timer: &Timer, fine: &[TickPolicy], name: &str) -> Result<()> {
        match timer.tickpolicy {
            Some(policy) if !fine.contains(&policy) => {
                Err(unsupported(format!("unsupported {name} timer tickpolicy '{policy}'")))
            }
            _ => Ok(()),
        }
    }

    fn vcpus(&self) -> Result<()> {
        let most = vcpus::most(self.def);
        if let Some(limit) = self.emulator.machine(self.machine).map(|m| m.cpu_max)
            && limit > 0
            && most > limit
        {
            return Err(unsupported(format!(
                "Maximum CPUs greater than specified machine type limit {limit}"
            )));
        }
        let states = &self.def.vcpus.vcpus;
        if let Some(first) = states.iter().find(|v| v.id == 0) {
            if !first.enabled {
                return Err(unsupported("vcpu 0 can't be offline"));
            }
            if first.hotpluggable == Some(true) {
                return Err(unsupported("vcpu0 can't be hotpluggable"));
            }
            if first.order.is_some_and(|o| o != 1) {
                return Err(unsupported("vcpu0 must be enabled first"));
            }
        }
        Ok(())
    }
}

fn smbios(s: &crate::document::types::Sysinfo) -> Option<&crate::document::types::Smbios> {
    match s {
        crate::document::types::Sysinfo::Smbios(s) => Some(s),
        crate::document::types::Sysinfo::Fwcfg(_) => None,
    }
}

/// `mm/dd/yyyy` or `mm/dd/yy`.
fn bios_date(s: &crate::document::types::Smbios) -> Result<()> {
    let Some(date) = s.bios.get("date") else { return Ok(()) };
    let parts: Vec<&str> = date.split('/').collect();
    let number = |i: usize| parts.get(i).and_then(|p| p.parse::<u32>().ok());
    let fine = match (parts.len(), number(0), number(1), number(2)) {
        (3, Some(month), Some(day), Some(year)) => {
            (1..=12).contains(&month)
                && (1..=31).contains(&day)
                && (year < 100 || (1900..10_000).contains(&year))
        }
        _ => false,
    };
    if fine { Ok(()) } else { Err(xml_detail("Invalid BIOS 'date' format")) }
}

//! Features, timers, vcpus and firmware settings of the guest as a whole.

use virt_error::Result;
use virt_xml::At;

use super::{Checker, unsupported};
use crate::config::lifecycle;
use crate::document::types::{
    AcpiTableKind, Firmware, HypervMode, LaunchSecurity, LoaderKind, Sysinfo, TickPolicy, Timer, TimerName,
    TimerTrack, VcpuState, VirtType,
};
use crate::document::{machine, vcpus, xml_error};

/// Vcpus that stay are there before those that come and go, in the order of their numbers.
fn vcpu_order(states: &[VcpuState]) -> Result<()> {
    let stays = |v: &VcpuState| v.hotpluggable == Some(false);
    let mut online = states.iter().filter(|v| v.enabled);
    let ordered = online.clone().filter(|v| v.order.is_some()).count();
    if ordered > 0 && online.any(|v| v.order.is_none()) {
        return Err(unsupported("all vcpus must have either set or unset order"));
    }
    let mut last = None;
    for (i, v) in states.iter().enumerate().filter(|(_, v)| stays(v)) {
        if states[..i].iter().any(|o| !stays(o)) {
            return Err(unsupported(
                "online non-hotpluggable vcpus need to be ordered prior to hotpluggable vcpus",
            ));
        }
        if ordered > 0 && v.order.unwrap_or(0) <= last.unwrap_or(0) {
            return Err(unsupported("online non-hotpluggable vcpus must be ordered in ascending order"));
        }
        last = v.order.or(last);
        if !v.enabled {
            return Err(unsupported(format!("vcpu '{}' is both offline and not hotpluggable", v.id)));
        }
    }
    Ok(())
}

/// Bytes that a base64 text stands for; 0 for what is none.
fn decoded(text: &str) -> usize {
    let text = text.trim_ascii();
    if !text.len().is_multiple_of(4) {
        return 0;
    }
    text.len() / 4 * 3 - text.bytes().rev().take_while(|b| *b == b'=').count().min(2)
}

impl Checker<'_> {
    pub(super) fn guest(&self) -> Result<()> {
        self.features().within("/domain/features")?;
        self.acpi().within("/domain/features/acpi")?;
        self.timers().within("/domain/clock")?;
        self.vcpus().within("/domain/vcpu")?;
        let resctrl = !self.def.cputune.cachetunes.is_empty() || !self.def.cputune.memorytunes.is_empty();
        if resctrl && self.def.virt_type != VirtType::Kvm {
            return Err(unsupported("cachetune is only supported for KVM domains")).within("/domain/cputune");
        }
        self.launch_security().within("/domain/launchSecurity")?;
        if self.def.memtune.min_guarantee.is_some_and(|m| m.kib > 0) {
            let text = "Parameter 'min_guarantee' not supported by QEMU.";
            return Err(unsupported(text)).within("/domain/memtune/min_guarantee");
        }
        self.boot().within("/domain/os")?;
        lifecycle::check(self.def).within("/domain/on_reboot")?;
        Ok(())
    }

    /// QEMU says which machines can have ACPI; UEFI and ACPI need each other in one way or the other.
    fn acpi(&self) -> Result<()> {
        let acpi = self.def.features.acpi;
        let can = self.emulator.machine(self.machine).is_none_or(|m| m.acpi);
        if acpi && !can {
            return Err(unsupported(format!("machine type '{}' does not support ACPI", self.machine)));
        }
        let uefi = self.def.os.firmware == Some(Firmware::Efi)
            || self.def.os.loader.as_ref().is_some_and(|l| l.kind == Some(LoaderKind::Pflash));
        if uefi && machine::is_x86(self.arch()) && !acpi {
            return Err(unsupported("UEFI requires ACPI on this architecture"));
        }
        if acpi && !uefi && machine::is_arm(self.arch()) {
            return Err(unsupported("ACPI requires UEFI on this architecture"));
        }
        let secure = self.def.os.loader.as_ref().is_some_and(|l| l.secure == Some(true));
        if secure {
            if !machine::is_q35(self.machine) {
                return Err(unsupported("Secure boot is supported with q35 machine types only"));
            }
            if !machine::is_x86(self.arch()) {
                return Err(unsupported("Secure boot is supported for x86_64 architecture only"));
            }
            if self.def.features.smm.as_ref().is_none_or(|s| s.state != Some(true)) {
                return Err(unsupported("Secure boot requires SMM feature enabled"));
            }
        }
        Ok(())
    }

    fn boot(&self) -> Result<()> {
        let os = &self.def.os;
        if self.def.bootloader.is_some() {
            return Err(unsupported("bootloader is not supported by QEMU")).within("/domain/bootloader");
        }
        if os.bios.useserial == Some(true) && self.def.devices.serials.is_empty() {
            return Err(xml_error("need at least one serial port to use BIOS serial output"));
        }
        if os.bios.reboot_timeout.is_some_and(|t| !(-1..=65535).contains(&t)) {
            return Err(unsupported("invalid value for rebootTimeout, must be in range [-1,65535]"));
        }
        if let Some(table) = os.acpi.tables.iter().find(|t| t.kind == AcpiTableKind::Rawset) {
            return Err(unsupported(format!("ACPI table type '{}' is not supported", table.kind)));
        }
        for info in &self.def.sysinfo {
            let Sysinfo::Fwcfg(fw) = info else { continue };
            let named = |n: &str| n.starts_with("opt/");
            if fw.entries.iter().any(|e| !e.name.as_deref().is_some_and(named)) {
                return Err(unsupported("Invalid firmware name")).within("/domain/sysinfo");
            }
        }
        Ok(())
    }

    /// Kinds of protected guests that need hardware or machines which are not there.
    fn launch_security(&self) -> Result<()> {
        let sev = self.emulator.sev.is_some();
        let (name, can) = match &self.def.launch_security {
            None => return Ok(()),
            Some(LaunchSecurity::S390Pv) => {
                ("s390-pv", self.emulator.kvm && self.emulator.has_type("s390-pv-guest"))
            }
            Some(LaunchSecurity::Sev(_)) => ("sev", sev && self.emulator.has_type("sev-guest")),
            Some(LaunchSecurity::SevSnp(snp)) => {
                for (what, text, bytes) in [
                    ("guestVisibleWorkarounds", &snp.guest_visible_workarounds, 16),
                    ("idBlock", &snp.id_block, 96),
                    ("idAuth", &snp.id_auth, 4096),
                    ("hostData", &snp.host_data, 32),
                ] {
                    let Some(got) = text.as_deref().map(decoded) else { continue };
                    if got != bytes {
                        let text = format!("Unexpected length of '{what}', expected {bytes} got {got}");
                        return Err(unsupported(text));
                    }
                }
                ("sev-snp", sev && self.emulator.has_type("sev-snp-guest"))
            }
            // The release that our answers are those of does not know it.
            Some(LaunchSecurity::Tdx(_)) => {
                return Err(xml_error(
                    "Invalid value for attribute 'type' in element 'launchSecurity': 'tdx'.",
                ));
            }
        };
        match can {
            true => Ok(()),
            false => {
                Err(unsupported(format!("'{name}' launch security is not supported with this QEMU binary")))
            }
        }
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
        let ps2_off = f.ps2.as_ref().is_some_and(|s| s.state == Some(false));
        if ps2_off && f.vmport.as_ref().is_some_and(|s| s.state == Some(true)) {
            return Err(unsupported("vmport feature requires the ps2 feature not to be disabled"));
        }
        if let Some(tseg) = f.smm.as_ref().and_then(|s| s.tseg) {
            if f.smm.as_ref().is_some_and(|s| s.state == Some(false)) {
                // What is off has no size that matters.
            } else if !machine::is_q35(self.machine) {
                return Err(unsupported("SMM TSEG is only supported with q35 machine type"));
            }
            if tseg.bytes % (1 << 20) != 0 {
                return Err(unsupported("SMM TSEG size must be divisible by 1 MiB"));
            }
        }
        if f.async_teardown.is_some() && !self.emulator.at_least(8, 0) {
            return Err(unsupported("asynchronous teardown is not available with this QEMU binary"));
        }
        if f.tcg.is_some() && self.def.virt_type != VirtType::Qemu {
            return Err(unsupported("tcg features are incompatible with domain type"));
        }
        // The schema has a third word for this; the reference does not.
        if f.hyperv.as_ref().is_some_and(|h| h.mode == HypervMode::HostModel) {
            return Err(xml_error("Invalid value for attribute 'mode' in element 'hyperv': 'host-model'."));
        }
        Ok(())
    }

    fn timers(&self) -> Result<()> {
        let Some(clock) = &self.def.clock else { return Ok(()) };
        let x86 = machine::is_x86(self.arch());
        for timer in &clock.timers {
            let extra = [
                (timer.frequency.is_some(), "frequency", timer.name == TimerName::Tsc),
                (timer.mode.is_some(), "mode", timer.name == TimerName::Tsc),
                (timer.track.is_some(), "track", matches!(timer.name, TimerName::Rtc | TimerName::Platform)),
            ];
            if timer.name != TimerName::Platform
                && let Some((_, what, _)) = extra.iter().find(|(set, _, fine)| *set && !fine)
            {
                let text = format!("timer {} doesn't support setting of timer {what}", timer.name);
                return Err(unsupported(text));
            }
            match timer.name {
                TimerName::Platform => {
                    return Err(unsupported(format!("unsupported timer type (name) '{}'", timer.name)));
                }
                TimerName::Hpet if timer.present == Some(true) && !x86 => {
                    return Err(unsupported("hpet timer is not supported by this architecture"));
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
                TimerName::Rtc if timer.track == Some(TimerTrack::Boot) => {
                    return Err(unsupported("unsupported rtc timer track 'boot'"));
                }
                TimerName::Rtc => self.tick(timer, &[TickPolicy::Delay, TickPolicy::Catchup], "rtc")?,
                TimerName::Pit => {
                    self.tick(timer, &[TickPolicy::Delay, TickPolicy::Catchup, TickPolicy::Discard], "pit")?;
                }
                _ => {}
            }
            if timer.catchup != Default::default() && timer.tickpolicy != Some(TickPolicy::Catchup) {
                return Err(xml_error(
                    "setting of timer catchup policies is only supported with tickpolicy='catchup'",
                ));
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
        if let Some(wrong) = states.iter().find(|v| v.id >= most) {
            return Err(xml_error(format!("vcpu id '{}' is out of range of maximum vcpu count", wrong.id)));
        }
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
        vcpu_order(states)
    }
}

//! Features, timers, vcpus and firmware settings of the guest as a whole.

use virt_error::{Code, Domain as From, Error, Result};
use virt_xml::At;

use super::{Checker, unsupported};
use crate::config::lifecycle;
use crate::document::types::{
    AcpiTableKind, Firmware, LaunchSecurity, LoaderKind, Sysinfo, TickPolicy, Timer, TimerName, VirtType,
};
use crate::document::{machine, vcpus, xml_error};

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
        if os.bios.reboot_timeout.is_some_and(|t| !(-1..=65535).contains(&t)) {
            return Err(unsupported("invalid value for rebootTimeout, must be in range [-1,65535]"));
        }
        if os.bios.useserial == Some(true) && self.def.devices.serials.is_empty() {
            return Err(xml_error("need at least one serial port to use BIOS serial output"));
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
        let (name, device) = match &self.def.launch_security {
            None => return Ok(()),
            Some(LaunchSecurity::S390Pv) => ("s390-pv", "s390-pv-guest"),
            Some(LaunchSecurity::Sev(_)) => ("sev", "sev-guest"),
            Some(LaunchSecurity::SevSnp(_)) => ("sev-snp", "sev-snp-guest"),
            Some(LaunchSecurity::Tdx(_)) => ("tdx", "tdx-guest"),
        };
        // AMD's kinds need the host's own device as well.
        let hardware = !name.starts_with("sev") || std::path::Path::new("/dev/sev").exists();
        if self.emulator.has_type(device) && hardware {
            return Ok(());
        }
        Err(unsupported(format!("'{name}' launch security is not supported with this QEMU binary")))
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
                return Err(xml_error("dirty ring must be power of 2 and ranges [1024, 65536]"));
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
        Ok(())
    }
}

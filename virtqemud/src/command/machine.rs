//! The machine and its accelerator, clock, power management, sandbox.

use crate::document::types::{
    ClockBasis, ClockOffset, IoapicDriver, KeyWrapCipher, MemoryModel, SoundModel, TickPolicy, TimerName,
    VirtType,
};
use virt_error::Result;

use super::Builder;
use super::props::{Opts, on_off};
use crate::document::machine;

impl Builder<'_> {
    /// The guest's canonical machine type.
    pub(super) fn machine(&self) -> &str {
        self.def.os.kind.machine.as_deref().unwrap_or_default()
    }

    /// `-machine`
    pub(super) fn machine_line(&mut self) -> Result<()> {
        let name = self.machine();
        let def = self.def;
        let features = &def.features;
        let mut opts = Opts::new(name).with("usb", "off");
        let state = |s: &Option<crate::document::types::Switch>| s.as_ref().and_then(|s| s.state);
        opts = opts.switch("vmport", state(&features.vmport));
        if let Some(smm) = features.smm.as_ref().and_then(|s| s.state) {
            opts.put("smm", on_off(smm));
        }
        opts = opts.switch("i8042", state(&features.ps2));
        match features.ioapic {
            Some(IoapicDriver::Qemu) => opts.put("kernel_irqchip", "split"),
            Some(IoapicDriver::Kvm) => opts.put("kernel_irqchip", "on"),
            _ => {}
        }
        if let Some(gic) = &features.gic
            && machine::is_arm_virt(&self.emulator.arch, name)
        {
            opts = opts.opt("gic-version", gic.version.map(|v| v.as_str().to_string()));
        }
        if machine::is_arm_virt(&self.emulator.arch, name)
            && def.devices.iommus.iter().any(|i| i.model == crate::document::types::IommuModel::Smmuv3)
        {
            opts.put("iommu", "smmuv3");
        }
        if let Some(aia) = features.aia {
            opts.put("aia", aia.as_str());
        }
        for cipher in &def.keywrap.ciphers {
            opts.put(
                match cipher.name {
                    KeyWrapCipher::Aes => "aes-key-wrap",
                    KeyWrapCipher::Dea => "dea-key-wrap",
                },
                on_off(cipher.state),
            );
        }
        let dump = def.memory.as_ref().and_then(|m| m.dump_core);
        opts.put("dump-guest-core", on_off(dump.unwrap_or(self.launch.settings.dump_guest_core)));
        if def.memory_backing.nosharepages {
            opts.put("mem-merge", "off");
        }
        if def.devices.memories.iter().any(|m| m.model == MemoryModel::Nvdimm) {
            opts.put("nvdimm", "on");
        }
        opts = opts.switch("ras", state(&features.ras));
        self.pseries(&mut opts);
        if self.hmat() {
            opts.put("hmat", "on");
        }
        if self.cells().is_empty()
            && let Some(id) = self.emulator.machine(name).and_then(|m| m.default_ram_id.clone())
        {
            opts.put("memory-backend", id);
        }
        self.security_option(&mut opts);
        self.firmware_options(&mut opts);
        let timers = def.clock.iter().flat_map(|c| &c.timers);
        for hpet in timers.filter(|t| t.name == TimerName::Hpet) {
            if machine::is_i440fx(name) || machine::is_q35(name) {
                opts = opts.switch("hpet", hpet.present);
            }
        }
        if let Some(speaker) = def.devices.sounds.iter().find(|s| s.model == SoundModel::Pcspk) {
            opts = opts.opt("pcspk-audiodev", self.audio_id(speaker.audio));
        }
        if machine::has_acpi_switch(&self.emulator.arch, name) {
            opts.put("acpi", on_off(features.acpi));
        }
        self.line.opts("-machine", opts);
        Ok(())
    }

    fn pseries(&self, opts: &mut Opts) {
        let features = &self.def.features;
        if !machine::is_pseries(self.machine()) {
            return;
        }
        if let Some(hpt) = &features.hpt {
            if let Some(resizing) = hpt.resizing {
                opts.put("resize-hpt", resizing.as_str());
            }
            if let Some(size) = hpt.maxpagesize {
                opts.put("cap-hpt-max-page-size", format!("{}k", size.kib));
            }
        }
        let switches = [
            ("cap-htm", &features.htm),
            ("cap-nested-hv", &features.nested_hv),
            ("cap-ccf-assist", &features.ccf_assist),
        ];
        for (key, value) in switches {
            if let Some(on) = value.as_ref().and_then(|s| s.state) {
                opts.put(key, on_off(on));
            }
        }
        for (key, value) in [("cap-cfpc", features.cfpc), ("cap-sbbc", features.sbbc)] {
            if let Some(v) = value {
                opts.put(key, v.as_str());
            }
        }
        if let Some(v) = features.ibs {
            opts.put("cap-ibs", v.as_str());
        }
    }

    /// `-accel`
    pub(super) fn accel(&mut self) -> Result<()> {
        let features = &self.def.features;
        let opts = match self.def.virt_type {
            VirtType::Kvm => {
                let mut opts = Opts::new("kvm");
                let ring = features.kvm.as_ref().and_then(|k| k.dirty_ring.as_ref());
                if let Some(size) = ring.filter(|r| r.state).and_then(|r| r.size) {
                    opts.put("dirty-ring-size", size);
                }
                opts
            }
            VirtType::Hvf => Opts::new("hvf"),
            _ => {
                let cache = features.tcg.as_ref().and_then(|t| t.tb_cache);
                Opts::new("tcg").opt("tb-size", cache.map(|c| c.kib / 1024))
            }
        };
        self.line.opts("-accel", opts);
        if let Some(tseg) = features.smm.as_ref().and_then(|s| s.tseg) {
            self.line.arg("-global", format!("mch.extended-tseg-mbytes={}", tseg.bytes >> 20));
        }
        Ok(())
    }

    /// `-rtc` and the timers that are machine properties.
    pub(super) fn clock(&mut self) {
        let clock = self.def.clock.clone().unwrap_or_default();
        let mut opts = Opts::default();
        let adjustment = clock.adjustment.as_deref().and_then(|a| a.parse::<i64>().ok()).unwrap_or(0);
        match clock.offset {
            ClockOffset::Utc => opts.put("base", "utc"),
            ClockOffset::Localtime | ClockOffset::Timezone => opts.put("base", "localtime"),
            ClockOffset::Variable => {
                let local = clock.basis == Some(ClockBasis::Localtime);
                let shift = if local { self.launch.local_offset } else { 0 };
                opts.put("base", iso(self.launch.now + adjustment + shift));
            }
            ClockOffset::Absolute => opts.put("base", iso(clock.start.unwrap_or(0) as i64)),
        }
        if clock.offset == ClockOffset::Timezone
            && let Some(zone) = &clock.timezone
        {
            self.line.env.push(("TZ".into(), zone.clone()));
        }
        if let Some(rtc) = clock.timers.iter().find(|t| t.name == TimerName::Rtc) {
            use crate::document::types::TimerTrack;
            match rtc.track {
                Some(TimerTrack::Guest) => opts.put("clock", "vm"),
                Some(TimerTrack::Wall) => opts.put("clock", "host"),
                Some(TimerTrack::Realtime) => opts.put("clock", "rt"),
                _ => {}
            }
            if let Some(TickPolicy::Catchup) = rtc.tickpolicy {
                opts.put("driftfix", "slew")
            }
        }
        self.line.opts("-rtc", opts);
        let pit = self.emulator.has_type("kvm-pit");
        for pit in clock.timers.iter().filter(|t| pit && t.name == TimerName::Pit) {
            match pit.tickpolicy {
                None | Some(TickPolicy::Delay) => self.line.arg("-global", "kvm-pit.lost_tick_policy=delay"),
                Some(TickPolicy::Discard) => self.line.arg("-global", "kvm-pit.lost_tick_policy=discard"),
                _ => {}
            }
        }
    }

    /// What the guest's power buttons do, and sleep states.
    pub(super) fn power(&mut self) {
        self.line.flag("-no-shutdown");
        let pm = &self.def.pm;
        let device = if machine::is_q35(self.machine()) { "ICH9-LPC" } else { "PIIX4_PM" };
        let states = [("disable_s3", pm.suspend_to_mem), ("disable_s4", pm.suspend_to_disk)];
        for (name, enabled) in states {
            if let Some(enabled) = enabled {
                self.line.arg("-global", format!("{device}.{name}={}", u32::from(!enabled)));
            }
        }
    }

    /// QEMU's own system call filter.
    pub(super) fn sandbox(&mut self) {
        let value = match self.launch.settings.sandbox {
            Some(true) | None => "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
            Some(false) => "off",
        };
        self.line.arg("-sandbox", value);
    }
}

/// Seconds since 1970 as `2024-01-31T12:34:56`, UTC.
fn iso(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date from days since 1970 (Howard Hinnant's public algorithm).
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3600, rest % 3600 / 60, rest % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_gregorian() {
        assert_eq!(super::iso(0), "1970-01-01T00:00:00");
        assert_eq!(super::iso(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(super::iso(1_795_247_938), "2026-11-21T07:58:58");
        assert_eq!(super::iso(-1), "1969-12-31T23:59:59");
    }
}

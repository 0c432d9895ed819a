//! `-cpu` and `-smp`.

use crate::document::types::{CacheMode, CpuMode, FeaturePolicy, HypervMode, MaxPhysAddrMode, TimerName};
use virt_error::Result;

use super::Builder;
use super::props::Opts;
use crate::cpu::features;
use crate::document::cpu::qemu_feature;
use crate::document::machine;

impl Builder<'_> {
    /// `-cpu`
    pub(super) fn cpu(&mut self) -> Result<()> {
        // Machines without a named default get QEMU's own.
        if self.def.cpu.is_none() && !machine::is_x86(&self.emulator.arch) {
            return Ok(());
        }
        let mut opts = self.cpu_model();
        self.cpu_hypervisor_features(&mut opts);
        self.cpu_cache(&mut opts);
        self.line.opts("-cpu", opts);
        Ok(())
    }

    fn cpu_model(&self) -> Opts {
        let Some(cpu) = &self.def.cpu else {
            let name = self.emulator.default_cpu(self.machine()).unwrap_or("qemu64");
            return Opts::new(name);
        };
        let default = self.emulator.default_cpu(self.machine()).unwrap_or("qemu64");
        let named = cpu.model.as_ref().and_then(|m| m.name.clone());
        let mut opts = match cpu.mode.unwrap_or_default() {
            mode @ (CpuMode::HostPassthrough | CpuMode::Maximum) => {
                let name = if mode == CpuMode::Maximum { "max" } else { "host" };
                let opts = Opts::new(name);
                if mode == CpuMode::HostPassthrough || cpu.migratable.is_some() {
                    opts.switch("migratable", cpu.migratable)
                } else {
                    opts
                }
            }
            CpuMode::HostModel => Opts::new(named.as_deref().unwrap_or("host")),
            CpuMode::Custom => Opts::new(named.as_deref().unwrap_or(default)),
        };
        if let Some(vendor) = cpu.model.as_ref().and_then(|m| m.vendor_id.as_ref()) {
            opts.put("vendor", vendor);
        }
        for feature in &cpu.features {
            let name = feature.name.as_deref().unwrap_or_default();
            // Those are the host's kernel's: QEMU has no word for them.
            if machine::is_x86(&self.emulator.arch) && features::is_host_only(name) {
                continue;
            }
            let name = qemu_feature(name);
            match feature.policy.unwrap_or(FeaturePolicy::Require) {
                FeaturePolicy::Force | FeaturePolicy::Require => opts.put(&name, "on"),
                FeaturePolicy::Disable | FeaturePolicy::Forbid => opts.put(&name, "off"),
                FeaturePolicy::Optional => {}
            }
        }
        opts
    }

    fn cpu_hypervisor_features(&self, opts: &mut Opts) {
        let features = &self.def.features;
        if let Some(timers) = self.def.clock.as_ref().map(|c| &c.timers) {
            for timer in timers {
                match (timer.name, timer.present, timer.frequency) {
                    (TimerName::Kvmclock, Some(present), _) => {
                        opts.put("kvmclock", super::props::on_off(present))
                    }
                    (TimerName::Hypervclock, Some(true), _) => opts.put("hv-time", "on"),
                    (TimerName::Tsc, _, Some(hz)) if hz > 0 => opts.put("tsc-frequency", hz),
                    _ => {}
                }
            }
        }
        if let Some(eoi) = features.apic.as_ref().and_then(|a| a.eoi) {
            opts.put("kvm-pv-eoi", super::props::on_off(eoi));
        }
        if let Some(on) = features.pvspinlock.as_ref().and_then(|s| s.state) {
            opts.put("kvm-pv-unhalt", super::props::on_off(on));
        }
        if let Some(hyperv) = &features.hyperv {
            hyperv_options(hyperv, opts);
        }
        if self.def.devices.panics.iter().any(|p| p.model == Some(crate::document::types::PanicModel::Hyperv))
        {
            opts.word("hv-crash");
        }
        if let Some(k) = &features.kvm {
            if k.hidden.as_ref().is_some_and(|s| s.on()) {
                opts.put("kvm", "off");
            }
            if k.hint_dedicated.as_ref().is_some_and(|s| s.on()) {
                opts.put("kvm-hint-dedicated", "on");
            }
            if k.poll_control.as_ref().is_some_and(|s| s.on()) {
                opts.put("kvm-poll-control", "on");
            }
            // On by default with KVM: only switching it off needs a word.
            if k.pv_ipi.as_ref().is_some_and(|s| s.state == Some(false)) {
                opts.put("kvm-pv-ipi", "off");
            }
        }
        if let Some(on) = features.pmu.as_ref().and_then(|s| s.state) {
            opts.put("pmu", super::props::on_off(on));
        }
    }

    fn cpu_cache(&self, opts: &mut Opts) {
        let Some(cpu) = &self.def.cpu else { return };
        let passthrough = matches!(cpu.mode, Some(CpuMode::HostPassthrough | CpuMode::Maximum));
        if let Some(cache) = &cpu.cache {
            let (host, l3) = match cache.mode {
                CacheMode::Emulate if cache.level == Some(3) => (passthrough.then_some(false), Some(true)),
                CacheMode::Emulate => (passthrough.then_some(false), None),
                CacheMode::Passthrough => (Some(true), Some(false)),
                CacheMode::Disable => (passthrough.then_some(false), Some(false)),
            };
            if cache.mode == CacheMode::Emulate {
                *opts = opts.clone().switch("l3-cache", l3).switch("host-cache-info", host);
            } else {
                *opts = opts.clone().switch("host-cache-info", host).switch("l3-cache", l3);
            }
        }
        if let Some(address) = &cpu.maxphysaddr {
            match address.mode {
                MaxPhysAddrMode::Passthrough => {
                    opts.put("host-phys-bits", "on");
                    *opts = opts.clone().opt("host-phys-bits-limit", address.limit.filter(|l| *l > 0));
                }
                MaxPhysAddrMode::Emulate => match address.bits.filter(|b| *b > 0) {
                    Some(bits) => opts.put("phys-bits", bits),
                    None => opts.put("host-phys-bits", "off"),
                },
            }
        }
    }

    /// `-smp`
    pub(super) fn smp(&mut self) {
        let maximum = crate::document::vcpus::most(self.def);
        let online = crate::document::vcpus::online(self.def);
        let mut opts = Opts::new(&online.to_string());
        if online != maximum {
            opts.put("maxcpus", maximum);
        }
        match self.def.cpu.as_ref().and_then(|c| c.topology.as_ref()) {
            Some(t) => {
                opts.put("sockets", t.sockets.unwrap_or(1));
                opts.put("dies", t.dies.unwrap_or(1));
                opts.put("clusters", t.clusters.unwrap_or(1));
                opts.put("cores", t.cores.unwrap_or(1));
                opts.put("threads", t.threads.unwrap_or(1));
            }
            None => {
                opts.put("sockets", maximum);
                opts.put("cores", 1);
                opts.put("threads", 1);
            }
        }
        self.line.opts("-smp", opts);
    }
}

fn hyperv_options(h: &crate::document::types::Hyperv, opts: &mut Opts) {
    if h.mode == HypervMode::Passthrough {
        opts.put("hv-passthrough", "on");
        return;
    }
    let on = |s: &Option<crate::document::types::Switch>| s.as_ref().is_some_and(|s| s.on());
    let mut put = |yes: bool, name: &str| {
        if yes {
            opts.put(name, "on");
        }
    };
    put(on(&h.relaxed), "hv-relaxed");
    put(on(&h.vapic), "hv-vapic");
    if let Some(retries) = h.spinlocks.as_ref().filter(|s| s.state).and_then(|s| s.retries) {
        opts.put("hv-spinlocks", format!("0x{retries:x}"));
    }
    let mut put = |yes: bool, name: &str| {
        if yes {
            opts.put(name, "on");
        }
    };
    put(on(&h.vpindex), "hv-vpindex");
    put(on(&h.runtime), "hv-runtime");
    put(on(&h.synic), "hv-synic");
    let stimer = h.stimer.as_ref().filter(|s| s.state);
    put(stimer.is_some(), "hv-stimer");
    put(stimer.is_some_and(|s| on(&s.direct)), "hv-stimer-direct");
    put(on(&h.reset), "hv-reset");
    if let Some(value) = h.vendor_id.as_ref().filter(|v| v.state).and_then(|v| v.value.as_ref()) {
        opts.put("hv-vendor-id", value);
    }
    let mut put = |yes: bool, name: &str| {
        if yes {
            opts.put(name, "on");
        }
    };
    put(on(&h.frequencies), "hv-frequencies");
    put(on(&h.reenlightenment), "hv-reenlightenment");
    let flush = h.tlbflush.as_ref().filter(|t| t.state);
    put(flush.is_some(), "hv-tlbflush");
    put(flush.is_some_and(|t| on(&t.direct)), "hv-tlbflush-direct");
    put(flush.is_some_and(|t| on(&t.extended)), "hv-tlbflush-ext");
    put(on(&h.ipi), "hv-ipi");
    put(on(&h.evmcs), "hv-evmcs");
    put(on(&h.avic), "hv-avic");
    put(on(&h.emsr_bitmap), "hv-emsr-bitmap");
    put(on(&h.xmm_input), "hv-xmm-input");
}

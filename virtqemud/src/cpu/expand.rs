//! The CPU of a start: what a document asks for, told as one of the emulator's models and differences from it.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::cpu::{
    Cpu, CpuCheck, CpuFallback, CpuFeature, CpuMatch, CpuMode, CpuModel, FeaturePolicy,
};
use virt_model::domain::{Domain, VirtType};

use super::compare::{Comparison, Offered, compare, compare_offer};
use super::decode::{self, Wanted};
use super::features::{self, Features};
use super::probe::{Accelerator, Offer};
use super::table::{self, Known};
use super::told::{Policy, Told};
use super::{Cpus, HostModel};
use crate::emulator::Emulator;

/// Makes the CPU of a guest that is to be started whole: `host-model` and `minimum` become the model they stand for, a
/// model the emulator lacks another one, and features the emulator would add are switched off. Blocking: it may probe.
///
/// # Errors
/// Code 91 when the document asks for more than there is, code 67 or 1 for names nobody knows.
pub fn expand(cpus: &Cpus, def: &mut Domain, emulator: &Emulator) -> Result<()> {
    if !matches!(emulator.arch.as_str(), "x86_64" | "i686") {
        return Ok(());
    }
    let kvm = def.virt_type == VirtType::Kvm;
    if !kvm && def.virt_type != VirtType::Qemu {
        return Ok(());
    }
    let Some(cpu) = &mut def.cpu else { return Ok(()) };
    let mode = cpu.mode.unwrap_or_default();
    if matches!(mode, CpuMode::HostPassthrough | CpuMode::Maximum) {
        return Ok(());
    }
    let host = Host { cpus, emulator, accelerator: if kvm { Accelerator::Kvm } else { Accelerator::Tcg } };
    let told = read(cpu, &host)?;
    if mode == CpuMode::Custom && told.model.is_none() {
        return Ok(());
    }
    if cpu.check != Some(CpuCheck::None) {
        host.check_forbidden(&told)?;
    }
    if cpu.check == Some(CpuCheck::Partial) {
        host.check(&told)?;
    }
    if mode == CpuMode::HostModel || cpu.matching == Some(CpuMatch::Minimum) {
        let best = host.host_model()?.ok_or_else(|| no_host_model(emulator))?;
        become_host_model(cpu, &best, mode == CpuMode::HostModel);
    } else if let Some(model) = told.model {
        if emulator.cpu(model.name).is_none() {
            host.translate(cpu, &told, model)?;
        }
        switch_off(cpu, model.removed.iter().copied());
    }
    if cpu.features.iter().any(|f| f.policy == Some(FeaturePolicy::Optional)) {
        let best = host.offer()?.best.as_ref().map(|b| b.features.clone()).unwrap_or_default();
        settle_optional(cpu, &best);
    }
    Ok(())
}

/// What a start is measured by.
struct Host<'a> {
    cpus: &'a Cpus,
    emulator: &'a Emulator,
    accelerator: Accelerator,
}

impl Host<'_> {
    fn offer(&self) -> Result<std::sync::Arc<Offer>> {
        self.cpus.offer(self.emulator, self.accelerator)
    }

    fn host_model(&self) -> Result<Option<HostModel>> {
        Ok(self.cpus.host_model(&*self.offer()?, self.accelerator))
    }

    /// With hardware help the host's own CPU counts; the translator has its own. QEMU's own versions are judged by it.
    fn check(&self, told: &Told) -> Result<()> {
        let arch = self.emulator.arch.as_str();
        let judged_here = told.model.is_none_or(|m| m.judged_here);
        let answer = if self.accelerator == Accelerator::Kvm && judged_here {
            let host = self.cpus.host();
            compare(told, &Offered { features: &host.features, vendor: host.vendor, arch })
        } else {
            let offer = self.offer()?;
            let Some(best) = &offer.best else { return Ok(()) };
            compare_offer(told, &offer, &Offered { features: &best.features, vendor: best.vendor, arch })
        };
        match answer {
            (Comparison::Incompatible, why) => {
                Err(Error::new(Code::CpuIncompatible, From::Cpu, why.unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }

    /// Features that must not be there and that the host's model names.
    fn check_forbidden(&self, told: &Told) -> Result<()> {
        let mut forbidden = told.features.iter().filter(|(_, p)| *p == Policy::Forbid).peekable();
        if forbidden.peek().is_none() {
            return Ok(());
        }
        let Some(best) = self.host_model()? else { return Ok(()) };
        match forbidden.find(|(name, _)| best.described.extra.contains(name)) {
            Some((name, _)) => {
                let text = format!("Host CPU provides forbidden feature '{name}'");
                Err(Error::new(Code::CpuIncompatible, From::Cpu, text))
            }
            None => Ok(()),
        }
    }

    /// Takes another model of the emulator in place of one it does not have.
    fn translate(&self, cpu: &mut Cpu, told: &Told, model: &Known) -> Result<()> {
        let name = model.name;
        if cpu.model.as_ref().and_then(|m| m.fallback) == Some(CpuFallback::Forbid) {
            let text = format!("CPU model {name} is not supported by hypervisor");
            return Err(Error::new(Code::ConfigUnsupported, From::Qemu, text));
        }
        let offer = self.offer()?;
        let has = told.has();
        let wanted = Wanted {
            features: &has,
            vendor: told.vendor.as_deref().or(model.vendor),
            signature: None,
            named: &[],
        };
        let found = decode::for_guest(offer.candidates(), &wanted).ok_or_else(|| {
            Error::new(
                Code::OperationFailed,
                From::Cpu,
                format!("CPU model {name} is not supported by hypervisor"),
            )
        })?;
        set_name(cpu, found.model.name);
        let own = std::mem::take(&mut cpu.features);
        cpu.features = features::in_order(&found.extra).map(|n| feature(n, FeaturePolicy::Require)).collect();
        cpu.features.extend(found.disabled().map(|n| feature(n, FeaturePolicy::Disable)));
        override_features(cpu, own);
        Ok(())
    }
}

/// A guest's CPU as something that can be compared.
fn read(cpu: &Cpu, host: &Host<'_>) -> Result<Told> {
    let mut asked = Vec::with_capacity(cpu.features.len());
    for feature in &cpu.features {
        let name = feature.name.as_deref().unwrap_or_default();
        let known = features::known(name).ok_or_else(|| {
            Error::new(Code::ConfigUnsupported, From::Qemu, format!("unknown CPU feature: {name}"))
        })?;
        asked.push((known, policy(feature.policy.unwrap_or(FeaturePolicy::Require))));
    }
    let named = cpu.model.as_ref().and_then(|m| m.name.as_deref());
    let model = named.map(|name| table::get(name).ok_or_else(|| unknown(name, cpu, host))).transpose()?;
    Ok(Told {
        arch: None,
        model,
        foreign: None,
        vendor: cpu.vendor.clone(),
        strict: cpu.matching == Some(CpuMatch::Strict),
        host: false,
        features: asked,
        address: None,
    })
}

fn unknown(name: &str, cpu: &Cpu, host: &Host<'_>) -> Error {
    if cpu.check == Some(CpuCheck::Partial) && host.emulator.cpu(name).is_some() {
        return Error::new(Code::InvalidArg, From::Qemu, format!("unknown CPU model {name}"));
    }
    Error::internal(From::Cpu, format!("Unknown CPU model {name}"))
}

fn no_host_model(emulator: &Emulator) -> Error {
    let arch = &emulator.arch;
    let text = format!("CPU mode 'host-model' for {arch} domain is not supported by hypervisor");
    Error::new(Code::ConfigUnsupported, From::Qemu, text)
}

fn policy(policy: FeaturePolicy) -> Policy {
    match policy {
        FeaturePolicy::Force => Policy::Force,
        FeaturePolicy::Require => Policy::Require,
        FeaturePolicy::Optional => Policy::Optional,
        FeaturePolicy::Disable => Policy::Disable,
        FeaturePolicy::Forbid => Policy::Forbid,
    }
}

/// The document's own wishes stand above what the host's model says, but for those that only say "if possible".
fn become_host_model(cpu: &mut Cpu, best: &HostModel, with_vendor: bool) {
    let own = std::mem::take(&mut cpu.features);
    let found = &best.described;
    set_name(cpu, found.model.name);
    if with_vendor {
        cpu.vendor = best.vendor.map(str::to_string);
    }
    let extra = features::in_order(&found.extra).filter(|f| features::is_migratable(f));
    cpu.features = extra.map(|n| feature(n, FeaturePolicy::Require)).collect();
    cpu.features.extend(found.disabled().map(|n| feature(n, FeaturePolicy::Disable)));
    override_features(cpu, own);
}

fn override_features(cpu: &mut Cpu, own: Vec<CpuFeature>) {
    for wish in own {
        let same = |f: &&mut CpuFeature| {
            f.name.as_deref().and_then(features::known) == wish.name.as_deref().and_then(features::known)
        };
        match cpu.features.iter_mut().find(same) {
            Some(_) if wish.policy == Some(FeaturePolicy::Optional) => {}
            Some(there) => there.policy = wish.policy,
            None => cpu.features.push(wish),
        }
    }
}

fn switch_off(cpu: &mut Cpu, names: impl Iterator<Item = &'static str>) {
    for name in names {
        let said = |f: &CpuFeature| f.name.as_deref().and_then(features::known) == Some(name);
        if !cpu.features.iter().any(said) {
            cpu.features.push(feature(name, FeaturePolicy::Disable));
        }
    }
}

fn settle_optional(cpu: &mut Cpu, offered: &Features) {
    for feature in cpu.features.iter_mut().filter(|f| f.policy == Some(FeaturePolicy::Optional)) {
        let there = feature.name.as_deref().and_then(features::known).is_some_and(|n| offered.contains(n));
        feature.policy = Some(if there { FeaturePolicy::Require } else { FeaturePolicy::Disable });
    }
}

/// The model of an expanded CPU, which nothing may replace any more.
fn set_name(cpu: &mut Cpu, name: &str) {
    cpu.mode = Some(CpuMode::Custom);
    cpu.matching = Some(CpuMatch::Exact);
    let model = cpu.model.get_or_insert_with(CpuModel::default);
    model.name = Some(name.to_string());
    model.fallback = Some(CpuFallback::Forbid);
}

pub(super) fn feature(name: &str, policy: FeaturePolicy) -> CpuFeature {
    CpuFeature { policy: Some(policy), name: Some(name.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::super::decode::Described;
    use super::*;

    fn best() -> HostModel {
        let set = |names: &[&'static str]| -> Features { names.iter().copied().collect() };
        let described = Described {
            model: table::get("EPYC").unwrap(),
            extra: set(&["x2apic", "invtsc", "npt"]),
            missing: set(&["vme"]),
            gone: set(&["monitor"]),
        };
        HostModel { described, vendor: Some("AMD") }
    }

    fn features_of(cpu: &Cpu) -> Vec<(&str, FeaturePolicy)> {
        cpu.features.iter().map(|f| (f.name.as_deref().unwrap(), f.policy.unwrap())).collect()
    }

    #[test]
    fn the_documents_wishes_stand_above_the_hosts_model() {
        let mut cpu = Cpu {
            features: vec![
                feature("vme", FeaturePolicy::Require),
                feature("npt", FeaturePolicy::Optional),
                feature("aes", FeaturePolicy::Disable),
                feature("xop", FeaturePolicy::Optional),
            ],
            ..Cpu::default()
        };
        become_host_model(&mut cpu, &best(), true);
        settle_optional(&mut cpu, &Features::new());
        use FeaturePolicy::{Disable, Require};
        assert_eq!(
            features_of(&cpu),
            [
                ("x2apic", Require),
                ("npt", Require),
                ("vme", Require),
                ("monitor", Disable),
                ("aes", Disable),
                ("xop", Disable)
            ]
        );
        assert_eq!((cpu.mode, cpu.vendor.as_deref()), (Some(CpuMode::Custom), Some("AMD")));
        assert_eq!(cpu.model.unwrap().name.as_deref(), Some("EPYC"));
    }

    #[test]
    fn what_a_model_once_had_is_switched_off_unless_asked_for() {
        let mut cpu = Cpu { features: vec![feature("monitor", FeaturePolicy::Require)], ..Cpu::default() };
        switch_off(&mut cpu, ["monitor", "mpx"].into_iter());
        assert_eq!(features_of(&cpu), [("monitor", FeaturePolicy::Require), ("mpx", FeaturePolicy::Disable)]);
    }
}

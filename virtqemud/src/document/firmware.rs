//! Firmware: what a loader means, and which image a guest gets when it only says "efi".
//!
//! The host's descriptors (see [`crate::host::firmware`]) are tried in the order of their file names; the first that
//! has everything the document asks for is taken and written into the document.

use std::path::Path;

use virt_error::{Code, Domain as From, Error, Result};

use super::types::{
    DiskSource, Domain, Firmware as Kind, FirmwareFeature, FirmwareFeatureName, ImageFormat, Loader,
    LoaderKind, Nvram, Smm,
};
use super::xml_detail;
use crate::emulator::Emulator;
use crate::host::firmware::{self, Firmware};

/// Images from before there were descriptors, with the variables that go with them.
const LEGACY: &[(&str, &str)] = &[
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    ("/usr/share/AAVMF/AAVMF32_CODE.fd", "/usr/share/AAVMF/AAVMF32_VARS.fd"),
];

/// Checks and completes loader and variables; `root` is the host's file system, `nvram` where variables are kept.
pub fn choose(def: &mut Domain, emulator: &Emulator, root: &Path, nvram: &Path) -> Result<()> {
    check(def)?;
    match def.os.firmware.filter(|f| *f != Kind::None) {
        Some(kind) => automatic(def, emulator, root, kind)?,
        None => manual(def, emulator, root),
    }
    nvram_path(def, nvram);
    Ok(())
}

/// Combinations that make no sense.
fn check(def: &Domain) -> Result<()> {
    let os = &def.os;
    let automatic = os.firmware.is_some_and(|f| f != Kind::None);
    let loader = os.loader.as_ref();
    if !automatic {
        if !os.firmware_features.features.is_empty() {
            return Err(xml_detail(
                "cannot use feature-based firmware autoselection when firmware autoselection is disabled",
            ));
        }
        if let Some(l) = loader
            && l.path.is_none()
        {
            return Err(xml_detail("no loader path specified and firmware auto selection disabled"));
        }
    }
    let stateless = loader.and_then(|l| l.stateless);
    if let Some(nvram) = &os.nvram {
        if stateless == Some(true) {
            let what = if nvram.template.is_some() { "NVRAM template" } else { "NVRAM" };
            return Err(xml_detail(format!("{what} is not permitted when loader is stateless")));
        }
        if !automatic && loader.and_then(|l| l.kind) != Some(LoaderKind::Pflash) {
            return Err(xml_detail("Only pflash loader type permits NVRAM"));
        }
    }
    if stateless == Some(false) {
        if os.firmware == Some(Kind::Bios) {
            return Err(xml_detail("Only EFI firmware permits NVRAM"));
        }
        if !automatic && loader.and_then(|l| l.kind) != Some(LoaderKind::Pflash) {
            return Err(xml_detail("Only pflash loader type permits NVRAM"));
        }
    }
    if os.firmware == Some(Kind::Bios) && os.nvram.is_some() {
        return Err(xml_detail("Only EFI firmware permits NVRAM"));
    }
    Ok(())
}

fn format(name: &str) -> Option<ImageFormat> {
    ImageFormat::from_name(name)
}

/// A loader the document names: descriptors may know its variables.
fn manual(def: &mut Domain, emulator: &Emulator, root: &Path) {
    let Some(loader) = &mut def.os.loader else { return };
    // A ROM that says it is one has no format.
    let rom = loader.kind == Some(LoaderKind::Rom) && loader.format.is_none();
    loader.kind = loader.kind.filter(|k| *k != LoaderKind::None).or(Some(LoaderKind::Rom));
    let path = loader.path.clone().unwrap_or_default().trim().to_string();
    let wants_variables = loader.kind == Some(LoaderKind::Pflash)
        && loader.readonly == Some(true)
        && loader.stateless != Some(true);
    let machine = def.os.kind.machine.clone().unwrap_or_default();
    let known = firmware::all(root)
        .into_iter()
        .find(|f| f.path.to_string_lossy() == path && f.serves(&emulator.target, &machine));
    let template = match &known {
        Some(f) => f.template.clone(),
        None => LEGACY
            .iter()
            .find(|(code, _)| *code == path)
            .map(|(_, vars)| ((*vars).to_string(), "raw".to_string())),
    };
    loader.format =
        loader.format.or(known.as_ref().and_then(|f| format(&f.format))).or(Some(ImageFormat::Raw));
    if rom {
        loader.format = None;
    }
    if wants_variables && let Some((file, kind)) = template {
        let nvram = def.os.nvram.get_or_insert_with(Nvram::default);
        let local = !matches!(nvram.source, Some(DiskSource::Network(_)));
        if local {
            nvram.template.get_or_insert(file);
            nvram.template_format = nvram.template_format.or(format(&kind));
        }
    }
    // Firmware that is only read keeps its variables somewhere else, known template or not.
    if wants_variables {
        def.os.nvram.get_or_insert_default();
    }
    let pflash = def.os.loader.as_ref().is_some_and(|l| l.kind == Some(LoaderKind::Pflash));
    if let Some(nvram) = &mut def.os.nvram
        && (wants_variables || !pflash)
    {
        nvram.format = nvram.format.or(Some(ImageFormat::Raw));
    }
}

/// Takes the first image that has everything asked for.
fn automatic(def: &mut Domain, emulator: &Emulator, root: &Path, kind: Kind) -> Result<()> {
    let machine = def.os.kind.machine.clone().unwrap_or_default();
    let all = firmware::all(root);
    let arch = def.os.kind.arch.as_deref().unwrap_or(&emulator.arch);
    let target = crate::emulator::target_of_arch(arch);
    let Some(found) = all.iter().find(|f| fits(def, f, target, &machine, kind)) else {
        return Err(Error::new(
            Code::OperationFailed,
            From::Qemu,
            format!("Unable to find '{kind}' firmware that is compatible with the current configuration"),
        ));
    };
    let loader = def.os.loader.get_or_insert_with(Loader::default);
    loader.path = Some(found.path.to_string_lossy().into_owned());
    loader.format = loader.format.or(format(&found.format));
    if found.device == "memory" {
        loader.kind = Some(LoaderKind::Rom);
    } else {
        loader.kind = Some(LoaderKind::Pflash);
        loader.readonly = Some(found.mode != "combined");
        if found.mode == "stateless" {
            loader.stateless = Some(true);
        }
    }
    let mut enrolled = Some(found.has("enrolled-keys"));
    if found.mode == "split" && found.device != "memory" && loader.stateless != Some(true) {
        let nvram = def.os.nvram.get_or_insert_with(Nvram::default);
        if matches!(nvram.source, Some(DiskSource::Network(_))) {
            // Variables elsewhere are not made from the template, so nothing is known of their keys.
            enrolled = None;
            nvram.format = nvram.format.or(Some(ImageFormat::Raw));
        } else if let Some((file, kind)) = &found.template {
            nvram.template.get_or_insert_with(|| file.clone());
            nvram.template_format = nvram.template_format.or(format(kind));
            nvram.format = nvram.format.or(format(kind));
        }
    }
    if found.has("requires-smm") {
        if let Some(loader) = &mut def.os.loader {
            loader.secure = Some(true);
        }
        let smm = def.features.smm.get_or_insert_with(Smm::default);
        smm.state = Some(true);
    }
    if kind == Kind::Efi {
        let mut features = Vec::new();
        let listed = &def.os.firmware_features.features;
        let given = |name| listed.iter().find(|f| f.name == name).map(|f| f.enabled);
        if let Some(enabled) = given(FirmwareFeatureName::EnrolledKeys).or(enrolled) {
            features.push(FirmwareFeature { enabled, name: FirmwareFeatureName::EnrolledKeys });
        }
        let secure = given(FirmwareFeatureName::SecureBoot).unwrap_or_else(|| found.has("secure-boot"));
        features.push(FirmwareFeature { enabled: secure, name: FirmwareFeatureName::SecureBoot });
        def.os.firmware_features.features = features;
    }
    Ok(())
}

/// Whether an image has everything the document asks for.
fn fits(def: &Domain, f: &Firmware, target: &str, machine: &str, kind: Kind) -> bool {
    let interface = if kind == Kind::Efi { "uefi" } else { "bios" };
    if !f.interfaces.iter().any(|i| i == interface) || !f.serves(target, machine) {
        return false;
    }
    let loader = def.os.loader.clone().unwrap_or_default();
    if loader.path.as_ref().is_some_and(|p| p.trim() != f.path.to_string_lossy()) {
        return false;
    }
    let wanted = loader.format.map_or("raw", |f| f.as_str());
    let variables =
        def.os.nvram.as_ref().and_then(|n| n.format.or(n.template_format)).map_or("raw", |f| f.as_str());
    if f.format != wanted && loader.format.is_some()
        || f.format != "raw" && loader.format.is_none() && variables == "raw"
    {
        return false;
    }
    if let Some(path) = def.os.nvram.as_ref().and_then(|n| n.template.as_ref())
        && f.template.as_ref().map(|t| &t.0) != Some(path)
    {
        return false;
    }
    match loader.stateless {
        Some(true) if f.device == "flash" && f.mode != "stateless" && f.mode != "split" => return false,
        Some(false) if f.device == "memory" || f.mode == "stateless" => return false,
        _ => {}
    }
    for feature in &def.os.firmware_features.features {
        let name = match feature.name {
            FirmwareFeatureName::EnrolledKeys => "enrolled-keys",
            FirmwareFeatureName::SecureBoot => "secure-boot",
        };
        if f.has(name) != feature.enabled {
            return false;
        }
    }
    let smm = f.has("requires-smm");
    if smm && def.features.smm.as_ref().is_some_and(|s| s.state == Some(false)) {
        return false;
    }
    match loader.secure {
        Some(true) => smm && f.has("secure-boot"),
        Some(false) => !smm,
        None => true,
    }
}

/// Variables that have no place get one named after the guest.
fn nvram_path(def: &mut Domain, folder: &Path) {
    let name = def.name.clone().unwrap_or_default();
    let Some(nvram) = &mut def.os.nvram else { return };
    let suffix = if nvram.format == Some(ImageFormat::Qcow2) { "qcow2" } else { "fd" };
    let path = folder.join(format!("{name}_VARS.{suffix}")).display().to_string();
    match &mut nvram.source {
        Some(DiskSource::File(file)) => _ = file.file.get_or_insert(path),
        Some(_) => {}
        None => _ = nvram.path.get_or_insert(path),
    }
}

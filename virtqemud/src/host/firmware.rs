//! Firmware descriptors: the files under `qemu/firmware` that say which image serves which machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Folders in rising order of importance: a file of the same name in a later one hides the earlier.
const FOLDERS: &[&str] = &["usr/share/qemu/firmware", "etc/qemu/firmware"];

/// One firmware image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// The image.
    pub path: PathBuf,
    /// Format of the image: "raw", "qcow2".
    pub format: String,
    /// How the image is mapped: "flash" or "memory".
    pub device: String,
    /// "split" keeps variables in a file of their own, "stateless" has none, "combined" one file for both.
    pub mode: String,
    /// The image that a guest's variables start from, and its format.
    pub template: Option<(String, String)>,
    /// "uefi" or "bios".
    pub interfaces: Vec<String>,
    /// "secure-boot", "requires-smm" ...
    pub features: Vec<String>,
    targets: Vec<(String, Vec<String>)>,
}

impl Firmware {
    /// Whether it is made for this machine (QEMU's target name, canonical machine name).
    pub fn serves(&self, target: &str, machine: &str) -> bool {
        self.targets.iter().any(|(t, globs)| t == target && globs.iter().any(|g| matches(g, machine)))
    }

    /// Whether the descriptor names this feature.
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|f| f == feature)
    }
}

/// All descriptors under `root`, by file name; unreadable ones are skipped, empty files mask others.
pub fn all(root: &Path) -> Vec<Firmware> {
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for folder in FOLDERS {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".json") {
                files.insert(name, entry.path());
            }
        }
    }
    files.values().filter_map(|path| std::fs::read(path).ok()).filter_map(|text| read(&text)).collect()
}

/// Images of the `nvram` setting's default that are installed under `root`.
pub fn defaults(root: &Path) -> Vec<String> {
    const ALL: &[&str] = &[
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_CODE.secboot.fd",
        "/usr/share/AAVMF/AAVMF_CODE.fd",
        "/usr/share/AAVMF/AAVMF32_CODE.fd",
    ];
    let there = |path: &&&str| root.join(path.trim_start_matches('/')).exists();
    ALL.iter().filter(there).map(ToString::to_string).collect()
}

fn read(text: &[u8]) -> Option<Firmware> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let mapping = &value["mapping"];
    let path = mapping["executable"]["filename"].as_str().or_else(|| mapping["filename"].as_str())?;
    let strings = |v: &Value| {
        v.as_array().into_iter().flatten().filter_map(|s| s.as_str().map(str::to_string)).collect()
    };
    let targets = value["targets"].as_array()?.iter();
    let text = |v: &Value, default: &str| v.as_str().unwrap_or(default).to_string();
    let template = &mapping["nvram-template"];
    Some(Firmware {
        path: path.into(),
        format: text(&mapping["executable"]["format"], "raw"),
        device: text(&mapping["device"], "memory"),
        mode: text(&mapping["mode"], "split"),
        template: template["filename"]
            .as_str()
            .map(|file| (file.to_string(), text(&template["format"], "raw"))),
        interfaces: strings(&value["interface-types"]),
        features: strings(&value["features"]),
        targets: targets
            .filter_map(|t| Some((t["architecture"].as_str()?.to_string(), strings(&t["machines"]))))
            .collect(),
    })
}

/// A shell pattern with `*` and `?` only.
fn matches(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), next) => {
            matches(&pattern[1..], text) || next.is_some_and(|c| matches(pattern, &text[c.len_utf8()..]))
        }
        (Some(p), Some(t)) if p == '?' || p == t => matches(&pattern[p.len_utf8()..], &text[t.len_utf8()..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_matched_by_machine() {
        let text =
            br#"{"interface-types":["uefi"],"mapping":{"device":"flash","executable":{"filename":"/f.fd"}},
            "targets":[{"architecture":"x86_64","machines":["pc-q35-*"]}],"features":["secure-boot"]}"#;
        let firmware = read(text).unwrap();
        assert!(firmware.serves("x86_64", "pc-q35-10.0") && !firmware.serves("x86_64", "pc-i440fx-10.0"));
        assert!(!firmware.serves("i386", "pc-q35-10.0") && firmware.has("secure-boot"));
        assert_eq!(read(b"{}"), None);
    }
}

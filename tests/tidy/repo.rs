//! The repository's files and crates as the rules see them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the repository.
pub struct File {
    /// Path below the top folder.
    pub path: String,
    /// Its content.
    pub text: String,
}

impl File {
    /// Written by `cargo xtask gen`.
    pub fn is_generated(&self) -> bool {
        self.text.lines().next().is_some_and(|line| line.contains("enerated by"))
            || self.path.split('/').any(|part| part == "gen")
    }

    /// Lines with their place, `path:number`.
    pub fn lines(&self) -> impl Iterator<Item = (String, &str)> {
        self.text.lines().enumerate().map(|(n, line)| (format!("{}:{}", self.path, n + 1), line))
    }
}

/// A crate as its manifest describes it.
pub struct Crate {
    /// Cargo.toml.
    pub manifest: String,
    /// Names of its dependencies, those for tests left out.
    pub dependencies: Vec<String>,
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every text file, build output left out.
pub fn files() -> Vec<File> {
    let top = top();
    let mut files = Vec::new();
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            // target may be a link as well.
            if name == "target" || name == ".git" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(&top).unwrap().to_string_lossy().into_owned();
                files.push(File { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// All crates of the workspace by name.
pub fn crates() -> BTreeMap<String, Crate> {
    let crates: BTreeMap<_, _> = files()
        .into_iter()
        .filter(|f| f.path.ends_with("/Cargo.toml") && !f.path.starts_with("fuzz/"))
        .map(|f| {
            let name =
                f.text.lines().find_map(|l| l.strip_prefix("name = ")).expect("a name").trim_matches('"');
            (name.to_owned(), Crate { dependencies: dependencies(&f.text), manifest: f.text.clone() })
        })
        .collect();
    assert!(crates.contains_key("virtqemud") && crates.contains_key("virt-model"));
    crates
}

fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.trim();
        } else if ["[dependencies]", "[build-dependencies]"].contains(&section)
            && let Some(name) =
                line.split(['.', ' ', '=']).next().filter(|n| !n.is_empty() && !n.starts_with('#'))
        {
            names.push(name.to_owned());
        }
    }
    names
}

//! Generated files on their way to the tree.

use crate::repo;
use anyhow::{Context, bail};
use std::io::Write;
use std::process::{Command, Stdio};

/// A generated file.
pub struct File {
    /// Path from the repository's top.
    pub path: String,
    /// Its text, formatted.
    pub text: String,
}

impl File {
    /// A Rust source file, put through rustfmt with the repository's settings.
    pub fn rust(path: impl Into<String>, text: &str) -> anyhow::Result<Self> {
        let path = path.into();
        let text = rustfmt(text).with_context(|| format!("formatting {path}"))?;
        Ok(Self { path, text })
    }
}

fn rustfmt(text: &str) -> anyhow::Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout", "--config-path"])
        .arg(repo::root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("rustfmt")?;
    let mut stdin = child.stdin.take().context("rustfmt's stdin")?;
    let input = text.to_owned();
    let feeder = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let out = child.wait_with_output()?;
    feeder.join().map_err(|_| anyhow::anyhow!("the feeder of rustfmt panicked"))??;
    if !out.status.success() {
        bail!("rustfmt failed: {}", out.status);
    }
    Ok(String::from_utf8(out.stdout)?)
}

/// Writes the files, or with `check` only compares them with the tree.
pub fn settle(files: Vec<File>, check: bool) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for file in files {
        let path = repo::root().join(&file.path);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == file.text) {
            continue;
        }
        if check {
            stale.push(file.path);
            continue;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, file.text).with_context(|| path.display().to_string())?;
        println!("wrote {}", file.path);
    }
    if !stale.is_empty() {
        bail!("stale, run the generator: {}", stale.join(", "));
    }
    Ok(())
}

//! Hostile clients against a running daemon: `hostile SOCKET --seed N --frames N --documents N`.
//!
//! Never against a daemon whose guests matter: the calls are senseless, but they are calls.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::path::PathBuf;
use virt_testkit::hostile::{Report, hostile_documents, hostile_session};

/// Sends frames and documents that were spoilt by a seed's choices.
#[derive(Debug, Parser)]
struct Options {
    /// The daemon's unix socket.
    socket: PathBuf,
    /// What is opened.
    #[arg(long, default_value = "qemu:///system")]
    uri: String,
    /// Where the choices begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many frames.
    #[arg(long, default_value_t = 20_000)]
    frames: u64,
    /// How many documents to define.
    #[arg(long, default_value_t = 1000)]
    documents: u64,
    /// A good document; one is built in.
    #[arg(long)]
    document: Vec<PathBuf>,
}

const DOCUMENT: &str = "<domain type='qemu'><name>hostile</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>\
    <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os><features><acpi/></features>\
    <devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/nonexistent/a.img'/>\
    <target dev='vda' bus='virtio'/></disk><interface type='user'><mac address='52:54:00:00:00:01'/></interface>\
    <serial type='pty'/><graphics type='vnc' autoport='yes'/></devices></domain>";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let mut report = Report::default();
    // Several sessions, so that the text says which seed to send again.
    for seed in options.seed..options.seed + options.frames.div_ceil(1000) {
        let frames = 1000.min(options.frames - report.frames);
        let one = hostile_session(&options.socket, &options.uri, seed, frames).await;
        let one = one.with_context(|| format!("seed {seed}"))?;
        if !one.is_clean() {
            println!("seed {seed}: {one:?}");
        }
        report.add(one);
    }
    println!("{report:?}");
    let mut documents = vec![DOCUMENT.to_owned()];
    for path in &options.document {
        documents.push(std::fs::read_to_string(path).with_context(|| path.display().to_string())?);
    }
    let (taken, refused) =
        hostile_documents(&options.socket, &options.uri, options.seed, options.documents, &documents).await?;
    println!("documents: {taken} taken, {refused} refused");
    ensure!(report.is_clean(), "the server hung or sent what is no frame");
    Ok(())
}

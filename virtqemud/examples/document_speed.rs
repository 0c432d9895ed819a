//! How long a document takes: reading, completing, writing, and its command line. `document_speed FILE...`
//!
//! Prints microseconds of the fastest tenth, and the time of a guest with thousands of devices to show that it stays
//! linear.

use std::time::Instant;

use virt_model::Mode;
use virt_model::domain::Domain;
use virtqemud::emulator::Emulators;
use virtqemud::{command, document};

const ROUNDS: usize = 400;

fn fast(mut act: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            act();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 10]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let emulators = Emulators::new(None);
    for file in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&file)?;
        let parsed = Domain::parse(&text, Mode::CONFIG).map_err(|e| e.message())?;
        let mut whole = parsed.clone();
        let emulator = document::complete(&mut whole, &emulators).map_err(|e| e.message())?;
        let parse = fast(|| {
            let _ = Domain::parse(&text, Mode::CONFIG);
        });
        let complete = fast(|| {
            let _ = document::complete_with(&mut parsed.clone(), &emulator, emulators.nvram());
        });
        let write = fast(|| {
            let _ = whole.format(Mode::CONFIG);
        });
        let line = fast(|| {
            let _ = command::native(whole.clone(), &emulator, emulators.cpus(), command::Settings::default());
        });
        println!(
            "{file}: read {parse:.0} us, complete {complete:.0} us, write {write:.0} us, command line {line:.0} us"
        );
    }
    for count in [1_000_u32, 10_000] {
        let disks: String = (0..count)
            .map(|i| {
                let name = document::target::name("sd", i);
                format!("<disk type='file'><source file='/d{i}'/><target dev='{name}' bus='scsi'/></disk>")
            })
            .collect();
        let text = format!(
            "<domain type='qemu'><name>big</name><memory>65536</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>\
             <devices>{disks}</devices></domain>"
        );
        let start = Instant::now();
        let mut def = Domain::parse(&text, Mode::CONFIG).map_err(|e| e.message())?;
        let done = document::complete(&mut def, &emulators);
        let what = done.map_or_else(|e| e.message(), |_| "accepted".into());
        println!("{count} disks: {:.1} ms ({what})", start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}

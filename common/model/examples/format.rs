//! Reads a domain document and writes it back: what a configuration (or with `--live` a running guest) keeps of it.
//!
//! `cargo run -p virt-model --example format -- [--live|--status] FILE`

use virt_model::Mode;
use virt_model::domain::Domain;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut mode = Mode::CONFIG;
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--live" => mode = Mode::LIVE,
            "--status" => mode = Mode::STATUS,
            file => print!("{}", Domain::parse(&std::fs::read_to_string(file)?, mode)?.format(mode)),
        }
    }
    Ok(())
}

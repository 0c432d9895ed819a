//! Reads domain documents and says of each what is wrong with it, one line a file: code, error domain, text, context.
//!
//! `cargo run -p virt-model --example check -- FILE...` (names on standard input when none are given)

use std::io::BufRead;

use virt_model::domain::{Domain, defaults};
use virt_model::{Mac, Mode, Uuid};

struct Fixed;

impl defaults::Fresh for Fixed {
    fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(1)
    }
    fn mac(&mut self) -> Mac {
        Mac([0x52, 0x54, 0, 0, 0, 1])
    }
}

fn check(text: &str) -> virt_error::Result<Domain> {
    let mut d = Domain::parse(text, Mode::CONFIG)?;
    defaults::guest(&mut d, &mut Fixed)?;
    defaults::devices(&mut d, &mut Fixed)?;
    defaults::controllers(&mut d)?;
    d.validate()?;
    Ok(d)
}

fn main() -> std::io::Result<()> {
    let mut files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        files = std::io::stdin().lock().lines().collect::<Result<_, _>>()?;
    }
    for file in files {
        match check(&std::fs::read_to_string(&file)?) {
            Ok(_) => println!("{file}\t0\t0\t"),
            Err(e) => {
                let context: Vec<_> = e.context().iter().map(|(k, v)| format!("{k}={v}")).collect();
                let line = e.message().replace('\n', " ");
                println!("{file}\t{}\t{}\t{line}\t{}", e.code() as i32, e.domain() as i32, context.join(" "));
            }
        }
    }
    Ok(())
}

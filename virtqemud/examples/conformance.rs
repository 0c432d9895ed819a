//! A fast loop over the recorded cases: `conformance argv domain --show 20 --match disk`.

#[path = "../tests/cases/mod.rs"]
mod cases;

use clap::Parser;

/// Compares documents and command lines with recorded ones.
#[derive(Parser)]
struct Args {
    /// Suites to run.
    suites: Vec<String>,
    /// How many differences to print for each suite.
    #[arg(long, default_value_t = 0)]
    show: usize,
    /// Only cases whose name contains this.
    #[arg(long = "match", default_value = "")]
    filter: String,
    /// Prints one document completed, and its command line.
    #[arg(long)]
    file: Option<std::path::PathBuf>,
}

fn main() {
    let args = Args::parse();
    if let Some(file) = &args.file {
        print!("{}", cases::show(file));
        return;
    }
    let Some(folder) = cases::cases() else {
        eprintln!("set VIRT_CONFORMANCE to the folder with the cases");
        std::process::exit(2);
    };
    for suite in &args.suites {
        let score = cases::run(&folder, suite, &args.filter);
        for (name, text) in score.differences.iter().take(args.show) {
            let mut text = text.clone();
            if text.len() > 700 {
                let mut end = 700;
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                text.truncate(end);
            }
            println!("  {suite}/{name}: {text}");
        }
        println!("{suite} {} of {} {:.1}%", score.good, score.total, score.percent());
    }
}

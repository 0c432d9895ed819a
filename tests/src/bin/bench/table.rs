//! Figures of all rounds, and how they are shown.

use anyhow::{Result, bail};

/// A named figure of one round: microseconds, milliseconds or calls per second, as its name says.
pub type Figure = (&'static str, f64);

#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    printed: usize,
    failures: Vec<String>,
}

struct Row {
    case: String,
    figure: &'static str,
    /// Server and the figure of each round.
    values: Vec<(&'static str, Vec<f64>)>,
}

impl Row {
    fn median(&self, server: &str) -> Option<f64> {
        let mut values = self.values.iter().find(|(name, _)| *name == server)?.1.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

impl Table {
    /// Takes the figures of a round; a failure is kept for the end.
    pub fn add(&mut self, case: &str, server: &'static str, figures: Result<Vec<Figure>>) {
        let figures = match figures {
            Ok(figures) => figures,
            Err(e) => {
                let text = format!("{e:#}");
                if !self.failures.contains(&text) {
                    self.failures.push(text);
                }
                return;
            }
        };
        for (figure, value) in figures {
            let at =
                self.rows.iter().position(|r| r.case == case && r.figure == figure).unwrap_or_else(|| {
                    self.rows.push(Row { case: case.to_owned(), figure, values: Vec::new() });
                    self.rows.len() - 1
                });
            let values = &mut self.rows[at].values;
            match values.iter_mut().find(|(name, _)| *name == server) {
                Some((_, all)) => all.push(value),
                None => values.push((server, vec![value])),
            }
        }
    }

    /// Prints the rows that were not printed yet.
    pub fn print_new_rows(&mut self) {
        if self.printed == 0 {
            println!(
                "{:<18} {:<14} {:>12} {:>12} {:>12} {:>8}",
                "case", "figure", "floor", "ours", "reference", "ratio"
            );
        }
        let show = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.1}"));
        for row in &self.rows[self.printed..] {
            let (ours, reference) = (row.median("ours"), row.median("reference"));
            let ratio = ours.zip(reference).map_or("-".to_owned(), |(o, r)| format!("{:.2}", o / r));
            let (floor, native) = (show(row.median("floor")), show(row.median("native")));
            let (ours, reference) = (show(ours), show(reference));
            println!(
                "{:<18} {:<16} {floor:>10} {native:>10} {ours:>10} {reference:>10} {ratio:>7}",
                row.case, row.figure
            );
        }
        self.printed = self.rows.len();
    }

    /// Fails when a round did.
    pub fn failures(self) -> Result<()> {
        if self.failures.is_empty() { Ok(()) } else { bail!("{}", self.failures.join("\n")) }
    }
}

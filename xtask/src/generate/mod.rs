//! `cargo xtask gen`: source files made from facts. They are committed; a test makes them again and compares.

mod output;
mod proto;
mod wire;

use crate::repo;
use clap::Subcommand;

/// What to generate.
#[derive(Debug, Subcommand)]
pub enum What {
    /// gRPC code and access table, from proto/.
    Proto,
    /// The wire's types and tables, the error tables and the public constants, from common/wire/facts.
    Wire {
        /// Writes nothing; fails when a committed file differs.
        #[arg(long)]
        check: bool,
    },
}

impl What {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Proto => proto::generate(&repo::root(), &repo::root().join("common/api/src/gen")),
            Self::Wire { check } => output::settle(wire::files()?, check),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn wire_is_up_to_date() {
        super::output::settle(super::wire::files().unwrap(), true).unwrap();
    }
}

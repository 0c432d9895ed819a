//! One guest: its states, its owner, its run.

pub mod state;

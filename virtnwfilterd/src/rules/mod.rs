//! From filters to rules. Pure: no kernel, no clock.
//!
//! ```text
//!   filter tree --plan--> rules in chains --variables--> one rule for each set of values
//!                                                            |
//!                       each way a packet can go: out of the guest, into the guest
//!                                                            |
//!                                 compile --> matches and a verdict --> nft's JSON
//! ```

pub mod card;
pub mod compile;
pub mod matches;
pub mod nft;
pub mod plan;
pub mod variables;

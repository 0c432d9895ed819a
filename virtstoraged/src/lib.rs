//! virtstoraged: storage pools and the volumes in them.
//!
//! ```text
//!   api -> lifecycle, definitions, volume -> owner of the pool -> Call (a thread, a deadline) -> backend -> tools, files
//!                                                |
//!                                                `-> published state (what every reading call answers from)
//! ```
//!
//! A pool's owner decides and publishes; what touches storage runs on a thread beside it ([`call`]), so that a file
//! server that does not answer holds up one pool's changes and nobody's reads. Work that lasts (making, copying, resizing a
//! volume) runs beside the owner altogether: the volume is marked busy, several run in one pool at once ([`volume`]).

pub mod api;
pub mod backend;
pub mod call;
pub mod conflict;
pub mod definitions;
pub mod driver;
pub mod image;
pub mod keys;
pub mod lifecycle;
pub mod paths;
pub mod pool;
pub mod serve;
pub mod status;
pub mod volume;

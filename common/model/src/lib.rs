//! Every libvirt document as plain types.
//!
//! Nothing here touches the file system, a socket or a clock, and nothing depends on a hypervisor: reading a document
//! and writing it gives the same document. Defaults that need no knowledge of the emulator are in `domain::defaults`;
//! machine types, address assignment and aliases are the driver's.
//!
//! The field names are the documents' own; `formatdomain.html` of libvirt says what they mean. Comments here tell what
//! that text does not.

mod bitmap;
mod size;
mod text;

pub mod backup;
pub mod described;
pub mod domain;
pub mod interface;
pub mod network;
pub mod nwfilter;
pub mod save;
pub mod secret;
pub mod snapshot;
pub mod storage;

pub use bitmap::Bitmap;
pub use size::{ShmemSize, Size, TsegSize, scaled};
pub use text::{Mac, UuidText, WrittenMac};
pub use uuid::Uuid;
pub use virt_xml::{Element, Mode};

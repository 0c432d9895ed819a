//! Changes of a domain's configuration, as pure functions on the document.
//!
//! A change is made on a copy; only when all of it succeeded does the caller complete, check, store and publish the copy.
//! The texts of refusals are libvirt's.

pub mod affect;
pub mod devices;
pub mod iothreads;
pub mod lifecycle;
pub mod memory;
pub mod params;
pub mod pins;
pub mod vcpus;

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Bitmap;
use virt_xml::{Bad, Value as _};

/// A list of numbers as clients write it: "1,3-4".
///
/// # Errors
/// Code 8.
pub fn bitmap(text: &str) -> Result<Bitmap> {
    Bitmap::parse(text).map_err(|_: Bad| {
        Error::new(Code::InvalidArg, From::None, format!("Failed to parse bitmap '{text}'"))
    })
}

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

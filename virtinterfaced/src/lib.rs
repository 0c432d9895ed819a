//! The host interface daemon: what interfaces there are, and what is configured to be there.
//!
//! What runs is read from the kernel ([`live`]). Definitions are documents of our own, kept beside libvirt's; all of them
//! together are rendered into the files of the host's own tool ([`networkd`], [`ifupdown`]), so that they are one state that
//! can be kept and taken back ([`transaction`]). What brings an interface up is that tool, or, where it does not run, the
//! kernel by netlink ([`kernel`]).

pub mod api;
pub mod backend;
pub mod driver;
pub mod ifupdown;
pub mod kernel;
pub mod live;
pub mod networkd;
pub mod serve;
pub mod transaction;

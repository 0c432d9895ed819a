//! The virtual network daemon: networks with a bridge, addresses, DHCP, DNS and a firewall of their own, and networks
//! that only name a bridge of the host.
//!
//! A change runs as a job of its network ([`network`]): the document is copied, changed by a pure function
//! ([`update`], [`virt_model::described`]), written to disk, acted on ([`lifecycle`]), published, and told as an event.

pub mod api;
pub mod definitions;
pub mod dnsmasq;
pub mod driver;
pub mod firewall;
pub mod hooks;
pub mod keeper;
pub mod lifecycle;
pub mod network;
pub mod pool;
pub mod serve;
pub mod shares;
pub mod status;
pub mod update;

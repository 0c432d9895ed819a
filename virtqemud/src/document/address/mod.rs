//! Addresses of devices.

pub mod bus;

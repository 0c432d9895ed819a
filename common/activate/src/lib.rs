//! Socket activation without systemd, for tests, the demo and development.
//!
//! The sockets, their names and modes and which daemon serves them are read from the unit files in `systemd/`, so they
//! are declared once. Everything moves under a root folder; several roots live side by side.
//!
//! A daemon that exits or is killed is started again by the next call: its sockets stay open here all the time.
//! Development only: an installed host uses the units themselves.

pub mod leftovers;
pub mod root;
pub mod service;
pub mod socket;
pub mod unit;

//! Whole-host tests: our own daemons under a temporary root, a real guest, real clients.
//!
//! With `VIRT_TEST_URI` set to another server's address (the reference's, for instance) the tests of behaviour run
//! against that one; those that look inside our daemons say that they were skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod access;
mod activation;
mod agent;
mod autostart;
mod backends;
mod chain;
mod conformance;
mod console;
mod cpu;
mod differential;
mod display;
mod dump;
mod files;
mod firmware;
mod grpc;
mod hostile;
mod jobs;
mod kept;
mod kill;
mod lifecycle;
mod live;
mod luks;
mod memory;
mod network;
mod plug;
mod python;
mod save;
mod schema;
mod secret;
mod session;
mod storage;
mod stuck;
mod tpm;
mod transfer;
mod tuning;

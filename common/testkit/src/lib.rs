//! A temporary host for tests.

pub mod hostile;

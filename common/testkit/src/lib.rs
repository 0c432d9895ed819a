//! A temporary host for tests.

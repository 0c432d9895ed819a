//! An ordered element tree with source positions, and the derive that reads and writes it.

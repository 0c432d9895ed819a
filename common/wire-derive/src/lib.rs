//! Derives XDR encoding and decoding.

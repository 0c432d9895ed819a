//! The one main() all daemons share.

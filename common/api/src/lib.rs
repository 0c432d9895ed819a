//! The gRPC API of every daemon, generated from proto/.

//! libvirt's RPC: XDR, frames, the table of every program, server and client side.

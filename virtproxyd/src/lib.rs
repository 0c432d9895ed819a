//! Speaks libvirt's wire protocol and routes each call to the right daemon.

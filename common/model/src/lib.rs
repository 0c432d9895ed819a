//! Every libvirt document as plain types.

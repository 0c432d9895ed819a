//! The gRPC API of every daemon, generated from proto/ (`cargo xtask gen proto`) and committed.
//!
//! One module a proto package, plus the [`access`] table made from the method options.

#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::large_futures)]

/// All file descriptors, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor.bin");

/// What every service shares.
pub mod common {
    /// Not settled yet.
    pub mod v1alpha1 {
        include!("gen/virt.common.v1alpha1.rs");
    }
}

/// The life of one client as one daemon sees it.
pub mod session {
    /// Not settled yet.
    pub mod v1alpha1 {
        include!("gen/virt.session.v1alpha1.rs");
    }
}

/// Domains of any hypervisor.
pub mod domain {
    /// Not settled yet.
    pub mod v1alpha1 {
        include!("gen/virt.domain.v1alpha1.rs");
    }
}

/// The node and its hypervisor.
pub mod host {
    /// Not settled yet.
    pub mod v1alpha1 {
        include!("gen/virt.host.v1alpha1.rs");
    }
}

/// Virtual networks.
pub mod network {
    /// Not settled yet.
    pub mod v1alpha1 {
        include!("gen/virt.network.v1alpha1.rs");
    }
}

/// Secrets.
pub mod secret {
    /// Not settled yet.
    pub mod v1alpha1 {
        include!("gen/virt.secret.v1alpha1.rs");
    }
}

/// Network filters.
pub mod nwfilter {
    /// Not settled yet.
    pub mod v1alpha1 {
        include!("gen/virt.nwfilter.v1alpha1.rs");
    }
}

/// The host's interfaces.
pub mod interface {
    /// Not settled yet.
    pub mod v1alpha1 {
        include!("gen/virt.interface.v1alpha1.rs");
    }
}

/// Storage pools and volumes.
pub mod storage {
    /// Not settled yet.
    pub mod v1alpha1 {
        include!("gen/virt.storage.v1alpha1.rs");
    }
}

pub mod access;

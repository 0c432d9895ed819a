//! Checks that many calls share.

use std::sync::Arc;

use virt_consts::{VIR_DOMAIN_AFFECT_CONFIG, VIR_DOMAIN_AFFECT_LIVE};
use virt_error::{Domain, Error, Result};
use virt_model::domain::Domain as Document;

use crate::config::affect::{self, Affect};
use crate::guest::Published;

/// Refuses flag bits outside `known`; `function` is the name libvirt's text carries.
///
/// # Errors
/// Code 8 with "unsupported flags (0x..) in function ..".
pub fn flags(given: u32, known: u32, function: &'static str) -> Result<()> {
    flags_of(Domain::Qemu, given, known, function)
}

/// The same where the text comes from another part of libvirt.
///
/// # Errors
/// As [`flags`].
pub fn flags_of(domain: Domain, given: u32, known: u32, function: &'static str) -> Result<()> {
    virt_rpc::check::flags(domain, given, known, function)
}

/// Refuses flag bits other than LIVE and CONFIG.
///
/// # Errors
/// As [`flags`].
pub fn affect_flags(given: u32, function: &'static str) -> Result<()> {
    flags(given, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, function)
}

/// What a change touches, for this domain.
///
/// # Errors
/// As [`affect::resolve`].
pub fn affect(published: &Published, flags: u32) -> Result<Affect> {
    affect::resolve(flags, published.is_active(), published.is_persistent())
}

/// The configuration a getter reads.
///
/// # Errors
/// As [`affect::reads_live`].
pub fn reads(published: &Published, flags: u32, function: &'static str) -> Result<Arc<Document>> {
    let live = affect::reads_live(flags, published.is_active(), published.is_persistent(), function)?;
    let document = if live { &published.live } else { &published.config };
    // A guest that is just starting is active without a live document for a moment.
    document.clone().or_else(|| published.document().cloned()).ok_or_else(affect::not_running)
}

/// What a change of a running guest answers where only the configuration can be changed.
pub fn live_unsupported(function: &str) -> Error {
    Error::no_support(Domain::Qemu, function)
}

/// The refusal of an argument that must not be zero.
pub fn zero(function: &'static str, argument: &str) -> Error {
    let text = format!("{argument} in {function} must not be zero");
    Error::invalid_arg(Domain::Domain, function, argument, text)
}

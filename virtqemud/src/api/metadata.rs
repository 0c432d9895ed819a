//! Title, description, metadata elements, lifecycle actions.

use virt_api::domain::v1alpha1::*;
use virt_consts::*;
use virt_error::{Domain as From, Result};
use virt_model::described::Kind;
use virt_model::domain::Domain;
use virt_object::owner::{Class, Spec};

use super::check::{affect, affect_flags, flags, flags_of, reads};
use crate::config::lifecycle;
use crate::definitions::{Announce, Completion, Definitions};
use crate::live;

const AFFECT: u32 = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG;

/// `DomainService.GetMetadata`.
///
/// # Errors
/// Code 80 when there is none, code 8 for arguments that do not fit, code 55 for a configuration that is not there.
pub fn get_metadata(definitions: &Definitions, request: GetMetadataRequest) -> Result<GetMetadataResponse> {
    let guest = definitions.driver().find(request.domain.as_ref())?;
    crate::config::affect::exclusive(request.flags, "virDomainGetMetadata")?;
    flags_of(From::Domain, request.flags, AFFECT, "virDomainObjGetMetadata")?;
    let kind = Kind::from_number::<Domain>(request.r#type)?;
    let published = guest.published();
    let document = reads(&published.value, request.flags, "virDomainGetMetadata")?;
    let metadata = kind.get(&*document, request.uri.as_deref())?;
    Ok(GetMetadataResponse { metadata })
}

/// `DomainService.SetMetadata`.
///
/// # Errors
/// As [`Kind::set`] and [`Definitions::change`].
pub async fn set_metadata(definitions: &Definitions, request: SetMetadataRequest) -> Result<Empty> {
    let SetMetadataRequest { domain, r#type: number, metadata: value, key, uri, flags: bits } = request;
    flags(bits, AFFECT, "qemuDomainSetMetadata")?;
    let guest = definitions.driver().find(domain.as_ref())?;
    let kind = Kind::from_number::<Domain>(number)?;
    kind.check::<Domain>(value.as_deref(), key.as_deref(), uri.as_deref())?;
    let affect = affect(&guest.published().value, bits)?;
    let announce = Announce::Metadata { kind: number, uri: uri.clone() };
    let edit = move |d: &mut Domain| kind.set(d, value.as_deref(), key.as_deref(), uri.as_deref());
    if affect.live {
        definitions.change_live(&guest, "metadata", affect.config, announce, edit).await?;
    } else {
        definitions.change(&guest, "metadata", Completion::Keep, announce, edit).await?;
    }
    Ok(Empty {})
}

/// `DomainService.SetLifecycleAction`.
///
/// # Errors
/// As [`lifecycle::read`], [`lifecycle::set`] and [`Definitions::change`].
pub async fn set_lifecycle_action(
    definitions: &Definitions,
    request: SetLifecycleActionRequest,
) -> Result<Empty> {
    affect_flags(request.flags, "qemuDomainSetLifecycleAction")?;
    let guest = definitions.driver().find(request.domain.as_ref())?;
    let (event, action) = lifecycle::read(request.r#type, request.action)?;
    let affect = affect(&guest.published().value, request.flags)?;
    let published = guest.published();
    if let Some(config) = published.value.config.as_ref().filter(|_| affect.config) {
        // Before the running guest is told.
        lifecycle::set(&mut (**config).clone(), event, action)?;
    }
    if affect.live {
        let spec = Spec::new("lifecycle action", Class::Modify);
        guest.work(spec, move |w| Box::pin(live::lifecycle::set(w, event, action))).await?;
    }
    if affect.config {
        let edit = move |d: &mut virt_model::domain::Domain| lifecycle::set(d, event, action);
        definitions.change(&guest, "lifecycle action", Completion::Keep, Announce::Nothing, edit).await?;
    }
    Ok(Empty {})
}

//! Definitions: define, undefine, rename, autostart.

use virt_api::domain::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_host::schema::{self, Schema};

use super::check::flags;
use crate::definitions::Definitions;

/// `DomainService.Define`.
///
/// # Errors
/// As [`Definitions::define`].
pub async fn define(definitions: &Definitions, request: DefineRequest) -> Result<DomainResponse> {
    flags(request.flags, VIR_DOMAIN_DEFINE_VALIDATE, "qemuDomainDefineXMLFlags")?;
    let asked = request.flags & VIR_DOMAIN_DEFINE_VALIDATE != 0;
    schema::check(asked, Schema::Domain, From::Qemu, &request.xml).await?;
    let guest = definitions.define(request.xml).await?;
    Ok(DomainResponse { domain: Some(guest.reference()) })
}

/// `DomainService.Undefine`.
///
/// # Errors
/// As [`Definitions::undefine`].
pub async fn undefine(definitions: &Definitions, request: UndefineRequest) -> Result<Empty> {
    flags(request.flags, ALL_DOMAIN_UNDEFINE_FLAGS_VALUES, "qemuDomainUndefineFlags")?;
    let guest = definitions.driver().find(request.domain.as_ref())?;
    definitions.undefine(&guest, request.flags).await?;
    Ok(Empty {})
}

/// `DomainService.Rename`.
///
/// # Errors
/// As [`Definitions::rename`].
pub async fn rename(definitions: &Definitions, request: RenameRequest) -> Result<DomainResponse> {
    flags(request.flags, 0, "qemuDomainRename")?;
    if request.new_name.is_empty() {
        let function = "virDomainRename";
        let text = format!("string new_name in {function} must not be empty");
        return Err(Error::invalid_arg(From::Domain, function, "new_name", text));
    }
    let guest = definitions.driver().find(request.domain.as_ref())?;
    definitions.rename(&guest, request.new_name).await?;
    Ok(DomainResponse { domain: Some(guest.reference()) })
}

/// `DomainService.SetAutostart`.
///
/// # Errors
/// As [`Definitions::set_autostart`].
pub async fn set_autostart(
    definitions: &Definitions,
    request: SetAutostartRequest,
    once: bool,
) -> Result<Empty> {
    let guest = definitions.driver().find(request.domain.as_ref())?;
    definitions.set_autostart(&guest, once, request.autostart).await?;
    Ok(Empty {})
}

/// `DomainService.XmlToNative`.
///
/// # Errors
/// Code 8 for another format, and what the document's own rules refuse.
pub async fn xml_to_native(
    definitions: &Definitions,
    request: XmlToNativeRequest,
) -> Result<XmlToNativeResponse> {
    flags(request.flags, 0, "qemuConnectDomainXMLToNative")?;
    if request.format != "qemu-argv" {
        let text = format!("unsupported config type {}", request.format);
        return Err(Error::new(Code::InvalidArg, From::Qemu, text));
    }
    let config = definitions.command_line(request.xml).await?;
    Ok(XmlToNativeResponse { config })
}

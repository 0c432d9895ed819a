//! Title, description and foreign metadata elements of a network.

use virt_consts::{
    VIR_NETWORK_METADATA_DESCRIPTION, VIR_NETWORK_METADATA_ELEMENT, VIR_NETWORK_METADATA_TITLE,
};
use virt_error::{Code, Domain, Error, Result};
use virt_model::network::Network;

fn must(function: &'static str, argument: &str, what: &str) -> Error {
    Error::invalid_arg(Domain::Network, function, argument, format!("{argument} in {function} must {what}"))
}

fn unknown(kind: i32) -> Error {
    Error::new(Code::InvalidArg, Domain::Network, format!("unknown metadata type '{kind}'"))
}

/// The stored text, or the element as a document of its own.
///
/// # Errors
/// Code 100 when there is none; code 8 for arguments that do not fit the kind.
pub fn get(net: &Network, kind: i32, uri: Option<&str>) -> Result<String> {
    let function = "virNetworkGetMetadata";
    let found = match (kind, uri) {
        (VIR_NETWORK_METADATA_TITLE, None) => net.title.clone(),
        (VIR_NETWORK_METADATA_DESCRIPTION, None) => net.description.clone(),
        (VIR_NETWORK_METADATA_TITLE | VIR_NETWORK_METADATA_DESCRIPTION, Some(_)) => {
            return Err(must(function, "uri", "be NULL"));
        }
        (VIR_NETWORK_METADATA_ELEMENT, None) => return Err(must(function, "uri", "not be NULL")),
        (VIR_NETWORK_METADATA_ELEMENT, Some(uri)) => net.metadata.document(uri),
        _ => return Err(unknown(kind)),
    };
    let missing =
        || Error::new(Code::NoNetworkMetadata, Domain::Network, "Requested metadata element is not present");
    found.ok_or_else(missing)
}

/// Checks the arguments of a change.
///
/// # Errors
/// Code 8.
pub fn check(kind: i32, value: Option<&str>, key: Option<&str>, uri: Option<&str>) -> Result<()> {
    let function = "virNetworkSetMetadata";
    match kind {
        VIR_NETWORK_METADATA_TITLE if value.is_some_and(|v| v.contains('\n')) => Err(Error::invalid_arg(
            Domain::Network,
            function,
            "metadata",
            "metadata title can't contain newlines",
        )),
        VIR_NETWORK_METADATA_TITLE | VIR_NETWORK_METADATA_DESCRIPTION => match (uri, key) {
            (Some(_), _) => Err(must(function, "uri", "be NULL")),
            (_, Some(_)) => Err(must(function, "key", "be NULL")),
            _ => Ok(()),
        },
        VIR_NETWORK_METADATA_ELEMENT if uri.is_none() => Err(must(function, "uri", "not be NULL")),
        VIR_NETWORK_METADATA_ELEMENT if value.is_some() && key.is_none() => {
            Err(must(function, "key", "not be NULL"))
        }
        VIR_NETWORK_METADATA_ELEMENT => Ok(()),
        _ => Err(unknown(kind)),
    }
}

/// Sets or (`None`) removes a text or element. Call [`check`] first.
///
/// # Errors
/// Code 35 for an element that is not XML.
pub fn set(
    net: &mut Network,
    kind: i32,
    value: Option<&str>,
    key: Option<&str>,
    uri: Option<&str>,
) -> Result<()> {
    let text = || value.filter(|v| !v.is_empty()).map(str::to_string);
    match kind {
        VIR_NETWORK_METADATA_TITLE => net.title = text(),
        VIR_NETWORK_METADATA_DESCRIPTION => net.description = text(),
        _ => net.metadata.set(uri.unwrap_or_default(), key.unwrap_or_default(), value)?,
    }
    Ok(())
}

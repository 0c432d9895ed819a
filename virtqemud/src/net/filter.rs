//! Network filters of a card: virtnwfilterd puts them on the tap before the guest runs, and takes them off when the card goes.

use virt_api::nwfilter::v1alpha1::nwfilter_service_client::NwfilterServiceClient;
use virt_api::nwfilter::v1alpha1::{BindingRequest, CreateBindingRequest};
use virt_error::{Code, Domain as From, Error, Result};
use virt_host::link;
use virt_model::domain::interface::{Interface, NetSource};
use virt_model::network::port::PortOwner;
use virt_model::nwfilter::FilterRef;
use virt_model::nwfilter::binding::Binding;
use virt_model::nwfilter::variable::Parameters;
use virt_object::blocking;
use virt_rpc::{client, from_status};

use super::Networks;
use super::connect::Context;
use super::ports::bounded;

/// The tap of a card that has a filter.
pub(super) fn filtered(card: &Interface) -> Option<String> {
    card.filterref.as_ref()?.filter.as_ref()?;
    card.target.clone()
}

/// Has the filter of a card put on its tap. Blocking.
///
/// # Errors
/// Code 67 for a card that no bridge carries, code 38 when virtnwfilterd is not reached, code 1 for a filter that is missing or
/// lacks variables: a guest must not run without the rules its document asks for.
pub fn bind(card: &Interface, context: &Context<'_>) -> Result<()> {
    match binding(card, &context.owner)? {
        Some(binding) => context.runtime.block_on(put_on(context.networks, binding)),
        None => Ok(()),
    }
}

/// Has another filter put on the tap of a running guest's card. Meanwhile nothing gets through.
///
/// # Errors
/// As [`bind`]; the old filter is in force then, or the tap stays shut when not even that can be had.
pub async fn exchange(
    old: &Interface,
    new: &Interface,
    owner: &PortOwner,
    networks: &Networks,
) -> Result<()> {
    let wanted = binding(new, owner)?;
    let Some(port) = filtered(old).or_else(|| filtered(new)) else { return Ok(()) };
    let shut = port.clone();
    blocking::run(move || link::set_up(&shut, false)).await?;
    let replace = async |wanted: Option<Binding>| {
        take_off(networks, &port).await?;
        match wanted {
            Some(binding) => create(networks, &binding).await,
            None => Ok(()),
        }
    };
    let result = replace(wanted).await;
    if result.is_err()
        && let Err(error) = replace(binding(old, owner)?).await
    {
        tracing::error!(?error, %port, "a card has lost its filter and is shut");
        return result;
    }
    let open = port.clone();
    blocking::run(move || link::set_up(&open, true)).await?;
    result
}

fn binding(card: &Interface, owner: &PortOwner) -> Result<Option<Binding>> {
    let (Some(reference), Some(port)) = (&card.filterref, filtered(card)) else { return Ok(None) };
    let link = match card.connection() {
        NetSource::Network(n) => n.bridge,
        NetSource::Bridge(b) => b.bridge,
        NetSource::Ethernet(_) => None,
        other => {
            let text = format!("filterref is not supported for network interfaces of type {}", other.tag());
            return Err(Error::new(Code::ConfigUnsupported, From::Domain, text));
        }
    };
    let mut parameters = Parameters::default();
    for p in &reference.parameters {
        parameters.add(p.name.as_deref().unwrap_or_default(), p.value.as_deref().unwrap_or_default());
    }
    Ok(Some(Binding {
        owner_name: owner.name.clone().unwrap_or_default(),
        owner_uuid: owner.uuid.unwrap_or_default(),
        port,
        link,
        mac: card.mac.as_ref().and_then(|m| m.address).unwrap_or_default(),
        filter: FilterRef { filter: reference.filter.clone().unwrap_or_default(), parameters },
    }))
}

async fn put_on(networks: &Networks, binding: Binding) -> Result<()> {
    match create(networks, &binding).await {
        // The tap of this name is new: what is there is a leftover of a guest that ended unseen.
        Err(e) if e.code() == Code::OperationFailed => {
            take_off(networks, &binding.port).await?;
            create(networks, &binding).await
        }
        other => other,
    }
}

async fn create(networks: &Networks, binding: &Binding) -> Result<()> {
    let mut client = client!(NwfilterServiceClient, networks.filters());
    let request = CreateBindingRequest { xml: binding.format(), flags: 0 };
    bounded("virtnwfilterd", async { client.create_binding(request).await.map_err(|s| from_status(&s)) })
        .await?;
    Ok(())
}

/// Has the filter taken off a tap. One that is gone is no error.
///
/// # Errors
/// Those of reaching the daemon.
pub(super) async fn take_off(networks: &Networks, port: &str) -> Result<()> {
    let mut client = client!(NwfilterServiceClient, networks.filters());
    let request = BindingRequest { port_dev: port.into() };
    let done =
        bounded("virtnwfilterd", async { client.delete_binding(request).await.map_err(|s| from_status(&s)) });
    match done.await {
        Err(e) if e.code() != Code::NoNwfilterBinding => Err(e),
        _ => Ok(()),
    }
}

//! Addresses of a guest's cards as the host knows them: leases that its networks gave, and the kernel's neighbours.

use virt_api::network::v1alpha1::DhcpLease;
use virt_error::Result;
use virt_host::link::{self, Neighbour};
use virt_model::domain::Domain;
use virt_model::domain::interface::{Interface, NetSource};
use virt_object::blocking;

use super::Networks;

/// More addresses of one card than this are not told.
const MOST: usize = 2048;

/// A card with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The host's end.
    pub name: String,
    /// The guest's hardware address.
    pub mac: String,
    /// Its addresses; cards without any are left out.
    pub addresses: Vec<Address>,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Version 6, else 4.
    pub is_v6: bool,
    /// In the usual text form.
    pub address: String,
    /// Bits of the network; 0 when nobody knows.
    pub prefix: u32,
}

fn names(card: &Interface) -> Option<(String, virt_model::Mac)> {
    Some((card.target.clone()?, card.mac.as_ref()?.address?))
}

/// What the guest's networks have leased to it.
///
/// # Errors
/// Those of reaching virtnetworkd.
pub async fn leases(networks: &Networks, live: &Domain) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for card in &live.devices.interfaces {
        let NetSource::Network(source) = &card.source else { continue };
        let (Some((name, mac)), Some(network)) = (names(card), &source.network) else { continue };
        let mac = mac.to_string();
        let leased = networks.leases(network, &mac).await?;
        let addresses: Vec<Address> = leased.into_iter().take(MOST).map(of_lease).collect();
        if !addresses.is_empty() {
            all.push(Found { name, mac, addresses });
        }
    }
    Ok(all)
}

fn of_lease(lease: DhcpLease) -> Address {
    Address { is_v6: lease.r#type == 1, address: lease.ip_address, prefix: lease.prefix }
}

/// Whom the host has talked to.
///
/// # Errors
/// Code 38 when the kernel does not tell.
pub async fn neighbours(live: &Domain) -> Result<Vec<Found>> {
    let known = blocking::run(link::neighbours).await?;
    Ok(live.devices.interfaces.iter().filter_map(|card| beside(card, &known)).collect())
}

fn beside(card: &Interface, known: &[Neighbour]) -> Option<Found> {
    let (name, mac) = names(card)?;
    let own = known.iter().filter(|n| n.mac == mac.0).take(MOST);
    let addresses: Vec<Address> = own
        .map(|n| Address { is_v6: n.address.is_ipv6(), address: n.address.to_string(), prefix: 0 })
        .collect();
    (!addresses.is_empty()).then(|| Found { name, mac: mac.to_string(), addresses })
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_model::Mac;
    use virt_model::domain::interface::MacAddress;

    #[test]
    fn a_neighbour_is_a_cards_by_its_hardware_address() {
        let mac = Mac([0x52, 0x54, 0, 0, 0, 7]);
        let card = Interface {
            target: Some("vnet0".into()),
            mac: Some(MacAddress { address: Some(mac), ..MacAddress::default() }),
            ..Interface::default()
        };
        let known = [
            Neighbour { index: 2, address: [10, 0, 0, 7].into(), mac: mac.0 },
            Neighbour { index: 2, address: [10, 0, 0, 8].into(), mac: [2; 6] },
        ];
        let found = beside(&card, &known).unwrap();
        assert_eq!((found.name.as_str(), found.addresses.len()), ("vnet0", 1));
        assert_eq!(found.addresses[0].address, "10.0.0.7");
        assert_eq!(beside(&card, &known[1..]), None);
    }
}

//! Network interfaces of the guest's system with their addresses.

use std::sync::Arc;

use serde_json::Value;
use virt_consts::{VIR_IP_ADDR_TYPE_IPV4, VIR_IP_ADDR_TYPE_IPV6};
use virt_error::Result;

use super::{call, malformed};
use crate::guest::Guest;

/// More interfaces, or addresses of one, than this are not told: the wire has a limit, and the guest may be hostile.
const MOST: usize = 2048;

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name without the number of an alias.
    pub name: String,
    /// Its hardware address.
    pub mac: Option<String>,
    /// Its addresses.
    pub addresses: Vec<Address>,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// virIPAddrType.
    pub kind: i32,
    /// In the usual text form.
    pub address: String,
    /// Bits of the network.
    pub prefix: u32,
}

/// All interfaces.
///
/// # Errors
/// As [`call`].
pub async fn get(guest: &Arc<Guest>) -> Result<Vec<Interface>> {
    let answer = call(guest, "guest-network-get-interfaces", Value::Null).await?;
    read(&answer).ok_or_else(|| malformed("guest-network-get-interfaces", "name"))
}

/// "eth0:1" is another address of "eth0".
fn read(answer: &Value) -> Option<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    for entry in answer.as_array()?.iter().take(MOST) {
        let name = entry["name"].as_str()?.split(':').next()?;
        let at = found.iter().position(|i| i.name == name).unwrap_or_else(|| {
            let mac = entry["hardware-address"].as_str().map(str::to_string);
            found.push(Interface { name: name.into(), mac, addresses: Vec::new() });
            found.len() - 1
        });
        let addresses = entry["ip-addresses"].as_array().into_iter().flatten();
        let read: Option<Vec<Address>> = addresses.take(MOST).map(address).collect();
        found.get_mut(at)?.addresses.extend(read?);
    }
    Some(found)
}

fn address(entry: &Value) -> Option<Address> {
    let kind = match entry["ip-address-type"].as_str()? {
        "ipv4" => VIR_IP_ADDR_TYPE_IPV4,
        "ipv6" => VIR_IP_ADDR_TYPE_IPV6,
        _ => return None,
    };
    let prefix = u32::try_from(entry["prefix"].as_u64()?).ok()?;
    Some(Address { kind, address: entry["ip-address"].as_str()?.into(), prefix })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn aliases_belong_to_their_interface() {
        let ip = |a: &str| json!([{"ip-address-type": "ipv4", "ip-address": a, "prefix": 24}]);
        let answer = json!([
            {"name": "lo", "hardware-address": "00:00:00:00:00:00"},
            {"name": "eth0", "hardware-address": "52:54:00:00:00:01", "ip-addresses": ip("10.0.0.1")},
            {"name": "eth0:1", "ip-addresses": ip("10.0.0.2")},
        ]);
        let found = read(&answer).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[1].addresses.iter().map(|a| a.address.as_str()).collect::<Vec<_>>(),
            ["10.0.0.1", "10.0.0.2"]
        );
        assert_eq!(read(&json!([{"name": "x", "ip-addresses": [{"ip-address-type": "ipx"}]}])), None);
        assert_eq!(read(&json!({})), None);
    }
}

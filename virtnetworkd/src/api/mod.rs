//! `NetworkService`: check, convert, ask, convert.

mod events;
mod forwards;
mod parameters;
mod ports;

use std::sync::Arc;

use tonic::{Request, Response, Status};
use virt_api::network::v1alpha1::network_service_server::NetworkService;
use virt_api::network::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain, Error, Result};
use virt_host::schema::{self, Schema};
use virt_model::described::Kind;
use virt_model::network::Network as Document;
use virt_model::{Mac, Mode};
use virt_object::owner::{Class, Spec};
use virt_rpc::{answer, check};
use virt_xml::Value;

use crate::definitions::{self, Affect};
use crate::driver::Driver;
use crate::firewall::foreign;
use crate::hooks::{self, Moment};
use crate::network::{Network as Handle, NetworkExt, WorkExt, invalid};
use crate::update::{Command, Update};
use crate::{lifecycle, pool};
use events::Watched;

type Answer<T> = Result<Response<T>, Status>;

/// virNetworkUpdateFlags: which configuration.
const AFFECT: u32 = VIR_NETWORK_UPDATE_AFFECT_LIVE | VIR_NETWORK_UPDATE_AFFECT_CONFIG;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct NetworkApi {
    driver: Arc<Driver>,
}

impl NetworkApi {
    /// For this driver's networks.
    pub fn new(driver: Arc<Driver>) -> Self {
        Self { driver }
    }

    fn find(&self, wanted: &Option<NetworkRef>) -> Result<Arc<Handle>> {
        self.driver.find(wanted.as_ref())
    }
}

fn flags(given: u32, known: u32, function: &'static str) -> Result<()> {
    check::flags(Domain::Network, given, known, function)
}

/// Holds a document against its schema if the flags ask for it.
async fn validate(asked: bool, schema: Schema, xml: &str) -> Result<()> {
    schema::check(asked, schema, Domain::Network, xml).await
}

fn row(network: &Handle) -> Network {
    let published = network.published();
    let document = published.value.document().ok();
    Network {
        network: Some(network.reference()),
        active: published.value.is_active(),
        persistent: published.value.config.is_some(),
        autostart: published.value.autostart,
        bridge: document.and_then(|d| d.bridge.name.clone()).unwrap_or_default(),
        generation: published.generation,
    }
}

/// Whether a row passes: in each group of filters, no bit means all.
fn passes(row: &Network, filter: u32) -> bool {
    let groups = [
        (VIR_CONNECT_LIST_NETWORKS_ACTIVE, VIR_CONNECT_LIST_NETWORKS_INACTIVE, row.active),
        (VIR_CONNECT_LIST_NETWORKS_PERSISTENT, VIR_CONNECT_LIST_NETWORKS_TRANSIENT, row.persistent),
        (VIR_CONNECT_LIST_NETWORKS_AUTOSTART, VIR_CONNECT_LIST_NETWORKS_NO_AUTOSTART, row.autostart),
    ];
    check::passes(filter, &groups)
}

#[tonic::async_trait]
impl NetworkService for NetworkApi {
    type WatchStream = Watched;

    async fn define(&self, request: Request<DefineRequest>) -> Answer<NetworkResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, VIR_NETWORK_DEFINE_VALIDATE, "networkDefineXMLFlags")?;
            let asked = request.flags & VIR_NETWORK_DEFINE_VALIDATE != 0;
            validate(asked, Schema::Network, &request.xml).await?;
            let network = definitions::define(&self.driver, request.xml).await?;
            Ok(NetworkResponse { network: Some(network.reference()) })
        })
        .await
    }

    async fn create(&self, request: Request<CreateRequest>) -> Answer<NetworkResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, VIR_NETWORK_CREATE_VALIDATE, "networkCreateXMLFlags")?;
            let asked = request.flags & VIR_NETWORK_CREATE_VALIDATE != 0;
            validate(asked, Schema::Network, &request.xml).await?;
            let network = lifecycle::create(&self.driver, request.xml).await?;
            Ok(NetworkResponse { network: Some(network.reference()) })
        })
        .await
    }

    async fn start(&self, request: Request<NetworkRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async { lifecycle::start(&*self.find(&request.network)?).await.map(|()| Empty {}) }).await
    }

    async fn destroy(&self, request: Request<NetworkRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async { lifecycle::destroy(&*self.find(&request.network)?).await.map(|()| Empty {}) }).await
    }

    async fn undefine(&self, request: Request<NetworkRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async { definitions::undefine(&*self.find(&request.network)?).await.map(|()| Empty {}) }).await
    }

    async fn update(&self, request: Request<UpdateRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, AFFECT, "networkUpdate")?;
            let network = self.find(&request.network)?;
            let (command, section) = (Command::from_number(request.command), request.section);
            let update = Update { command, section, parent: request.parent_index, xml: request.xml };
            network
                .work(Spec::new("update", Class::Modify), move |work| {
                    Box::pin(async move {
                        let before = work.published();
                        let affect = Affect::resolve(request.flags, &before.value)?;
                        let live = definitions::change(work, affect, |net| update.apply(net)).await?;
                        if let (Some(old), Some(new)) = (&before.value.live, live) {
                            lifecycle::refresh(work, old, &new).await?;
                            let hook = work.driver.folders.hook.clone();
                            let shown = pool::shown(&new, &work.published().value.ports);
                            hooks::tell(&hook, Moment::Updated, &shown, None).await;
                        }
                        Ok(Empty {})
                    })
                })
                .await
        })
        .await
    }

    async fn set_autostart(&self, request: Request<SetAutostartRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            let network = self.find(&request.network)?;
            definitions::set_autostart(&network, request.autostart).await.map(|()| Empty {})
        })
        .await
    }

    async fn get_metadata(&self, request: Request<GetMetadataRequest>) -> Answer<GetMetadataResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, AFFECT, "networkGetMetadata")?;
            let published = self.find(&request.network)?.published();
            let affect = Affect::resolve(request.flags, &published.value)?;
            let kind = Kind::from_number::<Document>(request.r#type)?;
            let document = if affect.config { &published.value.config } else { &published.value.live };
            let document = document.as_ref().map_or_else(|| published.value.document(), Ok)?;
            Ok(GetMetadataResponse { metadata: kind.get(&**document, request.uri.as_deref())? })
        })
        .await
    }

    async fn set_metadata(&self, request: Request<SetMetadataRequest>) -> Answer<Empty> {
        let r = request.into_inner();
        answer(async {
            flags(r.flags, AFFECT, "networkSetMetadata")?;
            let kind = Kind::from_number::<Document>(r.r#type)?;
            kind.check::<Document>(r.metadata.as_deref(), r.key.as_deref(), r.uri.as_deref())?;
            let network = self.find(&r.network)?;
            network
                .work(Spec::new("metadata", Class::Modify), move |work| {
                    Box::pin(async move {
                        let affect = Affect::resolve(r.flags, &work.published().value)?;
                        let (value, key, uri) = (r.metadata.as_deref(), r.key.as_deref(), r.uri.as_deref());
                        let before = work.published();
                        let live =
                            definitions::change(work, affect, |net| kind.set(net, value, key, uri)).await?;
                        // Our own metadata are port forwards.
                        if let (Some(old), Some(new)) = (&before.value.live, live) {
                            lifecycle::refresh(work, old, &new).await?;
                        }
                        work.emit(definitions::metadata_event(r.r#type, r.uri.clone()));
                        Ok(Empty {})
                    })
                })
                .await
        })
        .await
    }

    async fn list(&self, request: Request<ListRequest>) -> Answer<ListResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.filter, 0x3f, "networkConnectListAllNetworks")?;
            let rows = self.driver.networks.list();
            let mut networks: Vec<Network> =
                rows.iter().map(|n| row(n)).filter(|r| passes(r, request.filter)).collect();
            let count = u32::try_from(networks.len()).unwrap_or(u32::MAX);
            if request.count_only {
                networks.clear();
            }
            Ok(ListResponse { networks, count })
        })
        .await
    }

    async fn get(&self, request: Request<NetworkRequest>) -> Answer<Network> {
        let request = request.into_inner();
        answer(async { Ok(row(&*self.find(&request.network)?)) }).await
    }

    async fn get_xml(&self, request: Request<GetXmlRequest>) -> Answer<GetXmlResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, VIR_NETWORK_XML_INACTIVE, "networkGetXMLDesc")?;
            let published = self.find(&request.network)?.published();
            let inactive = request.flags & VIR_NETWORK_XML_INACTIVE != 0;
            let config = published.value.config.as_ref().filter(|_| inactive);
            let document = config.map_or_else(|| published.value.document(), Ok)?;
            let ports = &published.value.ports;
            let xml = if inactive {
                pool::unexpanded(document).format(Mode::CONFIG)
            } else if ports.is_empty() {
                document.format(Mode::CONFIG)
            } else {
                pool::shown(document, ports).format(Mode::LIVE)
            };
            Ok(GetXmlResponse { xml })
        })
        .await
    }

    async fn get_dhcp_leases(&self, request: Request<GetDhcpLeasesRequest>) -> Answer<GetDhcpLeasesResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "networkGetDHCPLeases")?;
            let network = self.find(&request.network)?;
            let only = request.mac.as_deref().map(Mac::parse).transpose().map_err(|_| {
                Error::new(Code::InvalidMac, Domain::Network, request.mac.clone().unwrap_or_default())
            })?;
            let published = network.published();
            let document = published.value.document()?.clone();
            let driver = self.driver.clone();
            let all = virt_object::blocking::run(move || lifecycle::leases(&driver, &network)).await?;
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let now = now.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(0));
            let live = all.into_iter().filter(|l| l.expiry_time == 0 || l.expiry_time >= now);
            let leases = live.filter_map(|lease| {
                let mac = lease.mac_address.as_deref().and_then(|m| Mac::parse(m).ok());
                if only.is_some() && mac != only {
                    return None;
                }
                let v6 = lease.ip_address.contains(':');
                let ip = document.ips.iter().find(|ip| ip.is_ipv6() == v6 && ip.has_dhcp());
                Some(DhcpLease {
                    interface: document.bridge.name.clone().unwrap_or_default(),
                    expiry_time: lease.expiry_time,
                    r#type: i32::from(v6),
                    mac: lease.mac_address,
                    iaid: lease.iaid,
                    ip_address: lease.ip_address,
                    prefix: ip.and_then(|ip| ip.prefix_length()).unwrap_or(if v6 { 64 } else { 24 }),
                    hostname: lease.hostname,
                    client_id: lease.client_id,
                })
            });
            Ok(GetDhcpLeasesResponse { leases: leases.collect() })
        })
        .await
    }

    async fn list_ports(&self, request: Request<ListPortsRequest>) -> Answer<ListPortsResponse> {
        let request = request.into_inner();
        answer(async { Ok(ports::list(&*self.find(&request.network)?)) }).await
    }

    async fn get_port(&self, request: Request<PortRequest>) -> Answer<Port> {
        let request = request.into_inner();
        answer(async { ports::get(&*self.find(&request.network)?, &request.port_uuid) }).await
    }

    async fn create_port(&self, request: Request<CreatePortRequest>) -> Answer<Port> {
        let request = request.into_inner();
        answer(async {
            flags(
                request.flags,
                VIR_NETWORK_PORT_CREATE_RECLAIM | VIR_NETWORK_PORT_CREATE_VALIDATE,
                "networkPortCreateXML",
            )?;
            let asked = request.flags & VIR_NETWORK_PORT_CREATE_VALIDATE != 0;
            validate(asked, Schema::NetworkPort, &request.xml).await?;
            let reclaim = request.flags & VIR_NETWORK_PORT_CREATE_RECLAIM != 0;
            ports::create(&*self.find(&request.network)?, &request.xml, reclaim).await
        })
        .await
    }

    async fn delete_port(&self, request: Request<PortRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            ports::delete(&*self.find(&request.network)?, &request.port_uuid).await.map(|()| Empty {})
        })
        .await
    }

    async fn get_port_parameters(&self, request: Request<PortRequest>) -> Answer<PortParameters> {
        let request = request.into_inner();
        answer(async {
            let network = self.find(&request.network)?;
            Ok(PortParameters { parameters: parameters::get(&network, &request.port_uuid)? })
        })
        .await
    }

    async fn set_port_parameters(&self, request: Request<SetPortParametersRequest>) -> Answer<Empty> {
        let r = request.into_inner();
        answer(async {
            let network = self.find(&r.network)?;
            parameters::set(&network, &r.port_uuid, r.parameters).await.map(|()| Empty {})
        })
        .await
    }

    async fn add_port_forward(&self, request: Request<PortForwardRequest>) -> Answer<Empty> {
        let r = request.into_inner();
        answer(async {
            flags(r.flags, AFFECT, "networkAddPortForward")?;
            let network = self.find(&r.network)?;
            forwards::change(&network, r, forwards::Change::Add).await.map(|()| Empty {})
        })
        .await
    }

    async fn remove_port_forward(&self, request: Request<PortForwardRequest>) -> Answer<Empty> {
        let r = request.into_inner();
        answer(async {
            flags(r.flags, AFFECT, "networkRemovePortForward")?;
            let network = self.find(&r.network)?;
            forwards::change(&network, r, forwards::Change::Remove).await.map(|()| Empty {})
        })
        .await
    }

    async fn list_port_forwards(&self, request: Request<NetworkRequest>) -> Answer<ListPortForwardsResponse> {
        let request = request.into_inner();
        answer(async { forwards::list(&self.driver, &*self.find(&request.network)?).await }).await
    }

    async fn check_firewall(&self, request: Request<NetworkRequest>) -> Answer<CheckFirewallResponse> {
        let request = request.into_inner();
        answer(async {
            let published = self.find(&request.network)?.published();
            let Some(live) = published.value.live.clone() else {
                return Err(invalid(format!("network '{}' is not active", published.value.name)));
            };
            let found = foreign::check(&live).await?.into_iter().map(|f| FirewallFinding {
                family: f.family,
                table: f.table,
                chain: f.chain,
                owner: f.owner.into(),
                what: f.what.into(),
                certain: f.certain,
                cure: f.cure,
            });
            Ok(CheckFirewallResponse { findings: found.collect() })
        })
        .await
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Watched> {
        answer(async { events::watch(&self.driver, request.into_inner()) }).await
    }
}

//! Starting and stopping networks, and finding running ones again.
//!
//! ```text
//!  start: status file -> bridge -> sysctl -> addresses -> up -> firewall -> routes -> forwarding -> dnsmasq -> published
//!         each step registers how it is taken back; a failure leaves nothing behind
//!  adopt: what is there stays as it is, what is missing is made again
//! ```

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use virt_consts::{VIR_NETWORK_EVENT_STARTED, VIR_NETWORK_EVENT_STOPPED};
use virt_error::{Domain, Error, Result};
use virt_model::domain::net::{Bandwidth, Rate};
use virt_model::network::Network as Document;
use virt_model::network::forward::{ForwardMode, NatPorts};
use virt_model::network::port::NetworkPort;
use virt_object::blocking;
use virt_object::owner::{Class, Spec};
use virt_object::registry::Claim;
use virt_object::undo::Undo;

use crate::definitions::complete;
use crate::dnsmasq::{conf, process};
use crate::driver::Driver;
use crate::firewall::{Placed, forwards, zones};
use crate::hooks::{self, Moment};
use crate::network::{Network, Published, Work, WorkExt, invalid};
use crate::{dnsmasq, pool, shares, status};
use virt_host::link::{self, Bridge};

/// A network that starts has none yet.
static NO_PORTS: LazyLock<Arc<Vec<NetworkPort>>> = LazyLock::new(Arc::default);

/// Makes and starts a transient network; a defined one of the same name and UUID runs with this document.
///
/// # Errors
/// As [`complete`] and [`start`].
pub async fn create(driver: &Arc<Driver>, xml: String) -> Result<Arc<Network>> {
    let this = driver.clone();
    let net = Arc::new(blocking::run(move || complete(&this, &xml)).await?);
    let (name, uuid) = (net.name().to_string(), net.uuid.unwrap_or_default());
    let network = match driver.networks.claim(&name, uuid).await? {
        Claim::New(reservation) => {
            reservation.commit(Network::new(driver, uuid, Published::inactive(&name, None)))
        }
        Claim::Existing(network) => network,
    };
    let started = network
        .work(Spec::new("create", Class::Lifecycle), move |work| {
            Box::pin(async move {
                let result = run(work, net).await;
                let published = work.published();
                if result.is_err() && published.value.config.is_none() && !published.value.is_active() {
                    work.driver.networks.remove(&work.uuid);
                }
                result
            })
        })
        .await;
    started.map(|()| network)
}

/// Starts a defined network.
///
/// # Errors
/// Code 55 when it runs, code 1 for a clash with the host, what a step fails with; nothing is left behind then.
pub async fn start(network: &Network) -> Result<()> {
    network
        .work(Spec::new("start", Class::Lifecycle), |work| {
            Box::pin(async move {
                let before = work.published();
                let Some(config) = before.value.config.clone() else {
                    return Err(invalid("network is already active"));
                };
                run(work, config).await
            })
        })
        .await
}

async fn run(work: &mut Work, config: Arc<Document>) -> Result<()> {
    if work.published().value.is_active() {
        return Err(invalid("network is already active"));
    }
    let hook = work.driver.folders.hook.clone();
    hooks::run(&hook, Moment::Start, &config, None).await?;
    let mut live = (*config).clone();
    // The reference shows the ports it uses when the document names none.
    if let Some(forward) = live.forward.as_mut().filter(|f| f.mode == ForwardMode::Nat) {
        forward.nat.port.get_or_insert(NatPorts { start: 1024, end: 65535 });
    }
    let sys = work.driver.folders.sys.clone();
    let live = Arc::new(blocking::run(move || pool::expand(live, &sys)).await?);
    work.driver.no_clash(&work.uuid, &forwards::all(&live, &[]))?;
    let mut undo = Undo::new(format!("start of network {}", live.name()));
    let result = bring_up(work, &live, &mut undo).await;
    // As in the reference, a program that does not like what has started takes it down again.
    let result = match result {
        Ok(()) => hooks::run(&hook, Moment::Started, &live, None).await,
        Err(error) => Err(error),
    };
    undo.guard(result).await?;
    work.publish(|p| p.live = Some(live));
    work.emit_lifecycle(VIR_NETWORK_EVENT_STARTED);
    Ok(())
}

async fn bring_up(work: &Work, live: &Arc<Document>, undo: &mut Undo) -> Result<()> {
    let file = work.status_file();
    status::save(work, live, &[])?;
    undo.add("status file", move || {
        std::fs::remove_file(&file)
            .map_err(|e| Error::system(Domain::Network, "cannot remove a status file", e))
    });
    if !live.owns_bridge() {
        // What it names of the host is asked for when a card is plugged in.
        return Ok(());
    }
    let name = live.bridge.name.clone().unwrap_or_default();
    link::check_name(&name)?;
    let net = live.clone();
    let bridge = name.clone();
    let held = work.driver.addresses.lock().await;
    blocking::run(move || no_conflict(&net).and_then(|()| make_bridge(&net))).await?;
    undo.add("bridge", move || link::remove_bridge(&bridge));
    let net = live.clone();
    blocking::run(move || configure(&net)).await?;
    drop(held);
    zones::join(&work.driver.folders.firewalld, live).await?;
    let (driver, uuid) = (work.driver.clone(), work.uuid);
    undo.add_async("firewall", move || async move { driver.firewall.remove(uuid).await });
    let files = work.files();
    let served = conf::needed(live);
    if served {
        let gone = files.clone();
        undo.add_async("dnsmasq", move || async move {
            process::stop(&gone).await;
            process::remove(&gone, &name);
            Ok(())
        });
    }
    // Neither needs the other, and each waits for a program most of the time.
    let rules = work.driver.enforce(work.uuid, live, &NO_PORTS);
    let server = async {
        if served {
            process::write(&files, &conf::texts(live, &files, true)?)?;
            let bridge = live.bridge.name.as_deref().unwrap_or_default();
            process::start(&files, bridge, &work.driver.helper).await?;
        }
        Ok(())
    };
    let (rules, server) = tokio::join!(rules, server);
    rules.and(server)
}

/// A network whose addresses the host already routes elsewhere would cut the host off.
fn no_conflict(net: &Document) -> Result<()> {
    let routes = link::ipv4_routes();
    for ip in &net.ips {
        let (IpAddr::V4(address), Some(prefix)) = (ip.address, ip.prefix_length()) else { continue };
        let mask = u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0);
        let own = u32::from(address) & mask;
        // As the reference: only a route of the same network and mask clashes.
        if let Some((interface, ..)) = routes.iter().find(|(_, to, m)| *to == own && *m == mask) {
            return Err(Error::internal(
                Domain::None,
                format!("Network is already in use by interface {interface}"),
            ));
        }
    }
    Ok(())
}

fn bridge_of(net: &Document) -> Bridge<'_> {
    Bridge {
        name: net.bridge.name.as_deref().unwrap_or_default(),
        mac: net.mac.map(|m| m.0),
        mtu: net.mtu,
        stp: net.bridge.stp != Some(false),
        delay: net.bridge.delay.unwrap_or(0),
    }
}

fn make_bridge(net: &Document) -> Result<()> {
    link::create_bridge(&bridge_of(net))
}

fn limit(rate: Option<&Rate>) -> Option<link::Limit> {
    let rate = rate?;
    Some(link::Limit { average: rate.average?, peak: rate.peak, burst: rate.burst })
}

/// What the host sends into the bridge is what the network gets. Blocking.
fn limit_bridge(net: &Document) -> Result<()> {
    let name = net.bridge.name.as_deref().unwrap_or_default();
    let of = |choose: fn(&Bandwidth) -> Option<&Rate>| limit(net.bandwidth.as_ref().and_then(choose));
    link::set_shared_limits(name, of(|b| b.inbound.as_ref()), of(|b| b.outbound.as_ref()))
}

/// Addresses, switches and routes of a bridge that was just made. Blocking.
fn configure(net: &Document) -> Result<()> {
    let name = net.bridge.name.as_deref().unwrap_or_default();
    let v6 = net.ips.iter().any(|ip| ip.is_ipv6());
    let sysctl = |key: &str, value: &str, wanted| {
        link::set_sysctl(&format!("net/ipv6/conf/{name}/{key}"), value, wanted)
    };
    // Guests must not turn the host into a client of their own routers.
    sysctl("disable_ipv6", if v6 { "0" } else { "1" }, v6)?;
    sysctl("accept_ra", "0", false)?;
    sysctl("autoconf", "0", false)?;
    for ip in &net.ips {
        let prefix = ip.prefix_length().and_then(|p| u8::try_from(p).ok()).ok_or_else(|| {
            Error::internal(Domain::Network, format!("bridge '{name}' has an invalid netmask or IP address"))
        })?;
        link::add_address(name, ip.address, prefix, None)?;
    }
    link::set_up(name, true)?;
    if net.bandwidth.is_some() {
        limit_bridge(net)?;
    }
    for route in &net.routes {
        let Some(prefix) = route.prefix_length().and_then(|p| u8::try_from(p).ok()) else { continue };
        link::add_route(name, route.address, prefix, route.gateway, route.metric)?;
    }
    if matches!(net.mode(), ForwardMode::Nat | ForwardMode::Route | ForwardMode::Open) {
        if net.ips.iter().any(|ip| !ip.is_ipv6()) {
            link::set_sysctl("net/ipv4/ip_forward", "1", true)?;
        }
        if v6 {
            link::set_sysctl("net/ipv6/conf/all/forwarding", "1", true)?;
        }
    }
    Ok(())
}

/// Takes a network down; a transient one is gone then.
///
/// # Errors
/// Code 55 when it is not active, code 38 when the bridge cannot be removed.
pub async fn destroy(network: &Network) -> Result<()> {
    network.work(Spec::new("destroy", Class::Destroy), |work| Box::pin(take_down(work))).await
}

async fn take_down(work: &mut Work) -> Result<()> {
    let before = work.published();
    let Some(live) = before.value.live.clone() else {
        return Err(invalid(format!("network '{}' is not active", before.value.name)));
    };
    if live.owns_bridge() {
        let name = live.bridge.name.clone().unwrap_or_default();
        let (files, bridge) = (work.files(), name.clone());
        // Each of them waits for something else.
        let (gone, rules, ()) = tokio::join!(
            blocking::run(move || link::remove_bridge(&bridge)),
            work.driver.firewall.remove(work.uuid),
            process::stop(&files),
        );
        if let Err(error) = gone {
            // It runs on; its server comes back when it is missed.
            work.driver.enforce(work.uuid, &live, &before.value.ports).await?;
            return Err(error);
        }
        process::remove(&files, &name);
        rules?;
    }
    status::remove(work);
    hooks::tell(&work.driver.folders.hook, Moment::Stopped, &live, None).await;
    work.publish(|p| {
        p.live = None;
        p.ports = Arc::default();
    });
    work.emit_lifecycle(VIR_NETWORK_EVENT_STOPPED);
    if before.value.config.is_none() {
        work.driver.networks.remove(&work.uuid);
    }
    Ok(())
}

/// After a change of a running network: its server, its rules.
///
/// # Errors
/// What a step fails with.
pub async fn refresh(work: &Work, old: &Document, new: &Arc<Document>) -> Result<()> {
    if !new.owns_bridge() {
        return Ok(());
    }
    let files = work.files();
    let bridge = new.bridge.name.as_deref().unwrap_or_default();
    let (had, has) = (conf::needed(old), conf::needed(new));
    if has {
        let texts = conf::texts(new, &files, true)?;
        let before = if had { Some(conf::texts(old, &files, true)?) } else { None };
        // Host files are read again on a signal; the rest only at start.
        let same_conf = before.as_ref().is_some_and(|b| b.conf == texts.conf);
        let same = before.is_some_and(|b| b == texts);
        if !same {
            process::write(&files, &texts)?;
        }
        if !same && (!same_conf || !process::reload(&files)) {
            process::stop(&files).await;
            process::start(&files, bridge, &work.driver.helper).await?;
        }
    } else if had {
        process::stop(&files).await;
        process::remove(&files, bridge);
    }
    if old.bandwidth != new.bandwidth {
        let (new, ports) = (new.clone(), work.published().value.ports.clone());
        blocking::run(move || limit_bridge(&new).and_then(|()| shares::keep_all(&new, &ports))).await?;
    }
    work.driver.enforce(work.uuid, new, &work.published().value.ports).await
}

/// Finds the networks that ran before: what is missing of one is made again. One whose bridge is gone (a reboot within
/// a container) is no longer active.
///
/// # Errors
/// Code 38 when the status folder cannot be read.
pub async fn adopt(driver: &Arc<Driver>) -> Result<usize> {
    let this = driver.clone();
    let active = blocking::run(move || status::load(&this)).await?;
    let mut count = 0;
    for (network, _) in &active {
        let job = Spec::new("adopt", Class::Lifecycle);
        match network.work(job, |work| Box::pin(adopt_one(work))).await {
            Ok(true) => count += 1,
            Ok(false) => {}
            Err(error) => tracing::error!(?error, network = %network.uuid(), "a running network needs help"),
        }
    }
    let mut placed = Vec::new();
    for network in active.iter().filter_map(|(n, _)| driver.networks.by_uuid(n.uuid())) {
        let published = network.published();
        let Some(live) = published.value.live.as_ref().filter(|l| l.owns_bridge()) else { continue };
        let rules = driver.rules(live, &published.value.ports).await?;
        placed
            .push((*network.uuid(), Placed { bridge: live.bridge.name.clone().unwrap_or_default(), rules }));
    }
    driver.firewall.start(placed).await?;
    for (_, former) in &active {
        former.run().await;
    }
    Ok(count)
}

async fn adopt_one(work: &mut Work) -> Result<bool> {
    let Some(live) = work.published().value.live.clone() else { return Ok(false) };
    if !live.owns_bridge() {
        return Ok(true);
    }
    let name = live.bridge.name.clone().unwrap_or_default();
    let files = work.files();
    if !link::exists(&name) {
        process::stop(&files).await;
        process::remove(&files, &name);
        status::remove(work);
        work.publish(|p| p.live = None);
        if work.published().value.config.is_none() {
            work.driver.networks.remove(&work.uuid);
        }
        return Ok(false);
    }
    // After a switch from the reference it says how our own rules are taken away.
    status::save(work, &live, &work.published().value.ports)?;
    if conf::needed(&live) && process::running(&files).is_none() {
        let texts = conf::texts(&live, &files, true)?;
        process::write(&files, &texts)?;
        process::start(&files, &name, &work.driver.helper).await?;
    }
    Ok(true)
}

/// Starts every network that is to start with the host; a failure is logged.
pub async fn autostart(driver: &Arc<Driver>) {
    for network in driver.networks.list().iter() {
        let published = network.published();
        if published.value.autostart
            && !published.value.is_active()
            && let Err(error) = start(network).await
        {
            tracing::error!(?error, name = %published.value.name, "cannot start a network with the host");
        }
    }
}

/// The leases of a running network. Blocking.
///
/// # Errors
/// Code 38 when the file cannot be read.
pub fn leases(driver: &Driver, network: &Network) -> Result<Vec<dnsmasq::leases::Lease>> {
    let published = network.published();
    let document = published.value.document()?;
    dnsmasq::leases::of(&driver.files(document.name()), document)
}

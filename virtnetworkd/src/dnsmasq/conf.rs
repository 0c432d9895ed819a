//! dnsmasq's configuration from a network's document: a pure function, line by line as the reference writes it.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use virt_error::{Code, Domain, Error, Result};
use virt_model::network::Network;
use virt_model::network::dhcp::{DhcpHost, Lease, LeaseUnit};
use virt_model::network::dns::Srv;
use virt_model::network::forward::ForwardMode;
use virt_model::network::ip::{Ip, network_address};

use super::Files;

/// The texts of a server's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// NAME.conf.
    pub conf: String,
    /// NAME.hostsfile.
    pub hosts: String,
    /// NAME.addnhosts.
    pub addn_hosts: String,
}

/// Whether the network needs a server at all.
pub fn needed(net: &Network) -> bool {
    net.owns_bridge()
        && !net.ips.is_empty()
        && (net.dns.enabled() || net.ips.iter().any(|ip| ip.has_dhcp() || ip.tftp_root.is_some()))
}

/// A value that stands in one line of dnsmasq's files must not begin another one.
fn line_safe<'a>(what: &str, value: &'a str) -> Result<&'a str> {
    if value.contains(|c: char| c.is_control()) {
        let text = format!("{what} cannot contain control characters: '{}'", value.escape_default());
        return Err(Error::new(Code::XmlError, Domain::Network, text));
    }
    Ok(value)
}

/// The same for a value between commas.
fn field<'a>(what: &str, value: &'a str) -> Result<&'a str> {
    if value.contains([',', '"', '#', '\\', ' ', '/']) {
        let text = format!("{what} has a character that dnsmasq would misread: '{value}'");
        return Err(Error::new(Code::XmlError, Domain::Network, text));
    }
    line_safe(what, value)
}

/// Writes all files' texts. With `pid` the configuration names the pid file.
///
/// # Errors
/// Code 27 for a value that would break out of its line, code 67 for what dnsmasq cannot do.
pub fn texts(net: &Network, files: &Files, pid: bool) -> Result<Texts> {
    let name = line_safe("network name", net.name())?;
    let mut out = format!(
        "##WARNING:  THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE\n\
         ##OVERWRITTEN AND LOST.  Changes to this configuration should be made using:\n\
         ##    virsh net-edit {name}\n\
         ## or other application using the libvirt API.\n##\n\
         ## dnsmasq conf file created by libvirt\n"
    );
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line("strict-order".into());
    if !net.dns.enabled() {
        line("port=0".into());
    }
    dns(net, &mut line)?;
    if pid {
        line(format!("pid-file={}", quoted(&files.pid())));
    }
    line("except-interface=lo".into());
    line("bind-dynamic".into());
    line(format!("interface={}", net.bridge.name.as_deref().unwrap_or_default()));
    if net.mode() == ForwardMode::None {
        // No way out: guests shall not take the bridge for one.
        line("dhcp-option=3".into());
        line("no-resolv".into());
        line("ra-param=*,0,0".into());
    }
    for txt in &net.dns.txts {
        let value = line_safe("TXT value", txt.value.as_deref().unwrap_or_default())?;
        line(format!("txt-record={},{value}", field("TXT name", &txt.name)?));
    }
    for record in &net.dns.srvs {
        line(srv(record)?);
    }
    dhcp(net, files, &mut line)?;
    for option in &net.dnsmasq.options {
        line(line_safe("dnsmasq option", option)?.to_string());
    }
    Ok(Texts { conf: out, hosts: hosts(net)?, addn_hosts: addn_hosts(net)? })
}

/// A path as the server reads it from its file: between quotes where it holds a sign that means something else there.
fn quoted(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    if !text.contains(['"', '\\', '#']) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn dns(net: &Network, line: &mut impl FnMut(String)) -> Result<()> {
    let dns = &net.dns;
    if dns.forward_plain_names == Some(false) {
        line("domain-needed".into());
        if net.domain.as_ref().and_then(|d| d.name.as_deref()).is_none_or(|d| d.is_empty()) {
            line("local=//".into());
        }
    }
    for f in &dns.forwarders {
        let domain = f.domain.as_deref().map(|d| field("forwarder domain", d)).transpose()?;
        line(match (domain, f.addr) {
            (Some(domain), Some(addr)) => format!("server=/{domain}/{addr}"),
            (Some(domain), None) => format!("server=/{domain}/#"),
            (None, Some(addr)) => format!("server={addr}"),
            (None, None) => continue,
        });
    }
    // With a server of its own for all names, the host's are not asked.
    if dns.forwarders.iter().any(|f| f.domain.is_none()) {
        line("no-resolv".into());
    }
    if let Some(domain) = &net.domain
        && let Some(name) = domain.name.as_deref().filter(|n| !n.is_empty())
    {
        let name = field("domain name", name)?;
        if domain.local_only == Some(true) {
            line(format!("local=/{name}/"));
        }
        line(format!("domain={name}"));
        line("expand-hosts".into());
    }
    for ip in net.ips.iter().filter(|ip| ip.local_ptr == Some(true)) {
        line(format!("local=/{}/", ptr_domain(ip)?));
    }
    Ok(())
}

/// The domain of an address's reverse names.
fn ptr_domain(ip: &Ip) -> Result<String> {
    let prefix = ip.prefix_length().unwrap_or(0);
    let (v6, step) = (ip.is_ipv6(), if ip.is_ipv6() { 4 } else { 8 });
    if prefix == 0 || !prefix.is_multiple_of(step) {
        let (family, unit) = if v6 { ("IPv6", 4) } else { ("IPv4", 8) };
        let text = format!(
            "PTR domain for {family} network with prefix {prefix} cannot be automatically created: it must be a multiple of {unit}"
        );
        return Err(Error::new(Code::ConfigUnsupported, Domain::Network, text));
    }
    let parts: Vec<String> = match network_address(ip.address, prefix) {
        IpAddr::V4(a) => a.octets().iter().map(u8::to_string).collect(),
        IpAddr::V6(a) => a.octets().iter().flat_map(|b| [b >> 4, b & 15]).map(|n| format!("{n:x}")).collect(),
    };
    let count = usize::try_from(prefix / step).unwrap_or(0).min(parts.len());
    let mut kept: Vec<&str> = parts[..count].iter().map(String::as_str).collect();
    kept.reverse();
    Ok(format!("{}.{}", kept.join("."), if v6 { "ip6.arpa" } else { "in-addr.arpa" }))
}

fn srv(record: &Srv) -> Result<String> {
    let part = |what: &str, value: &Option<String>| -> Result<Option<String>> {
        value.as_deref().map(|v| field(what, v).map(str::to_string)).transpose()
    };
    let (service, protocol) =
        (part("SRV service", &record.service)?, part("SRV protocol", &record.protocol)?);
    let mut out = format!("srv-host=_{}._{}", service.unwrap_or_default(), protocol.unwrap_or_default());
    if let Some(domain) = part("SRV domain", &record.domain)? {
        let _ = write!(out, ".{domain}");
    }
    // "." says that there is no such service: dnsmasq takes it for said when no target follows.
    let Some(target) = part("SRV target", &record.target)?.filter(|t| t != ".") else { return Ok(out) };
    let _ = write!(out, ",{target}");
    // dnsmasq takes them by place: what comes before the last one given must stand there too.
    let (port, priority, weight) = (record.port, record.priority, record.weight);
    if port.is_some() || priority.is_some() || weight.is_some() {
        let _ = write!(out, ",{}", port.unwrap_or(1));
    }
    if priority.is_some() || weight.is_some() {
        let _ = write!(out, ",{}", priority.unwrap_or(0));
    }
    if let Some(weight) = weight {
        let _ = write!(out, ",{weight}");
    }
    Ok(out)
}

fn lease_time(lease: Option<&Lease>) -> String {
    match lease.and_then(|l| Some((l.expiry?, l.unit))) {
        None => String::new(),
        Some((0, _)) => ",infinite".into(),
        Some((n, Some(LeaseUnit::Seconds))) => format!(",{n}s"),
        Some((n, Some(LeaseUnit::Hours))) => format!(",{n}h"),
        Some((n, _)) => format!(",{n}m"),
    }
}

fn dhcp(net: &Network, files: &Files, line: &mut impl FnMut(String)) -> Result<()> {
    // The TFTP server is dnsmasq's own, for the whole network.
    for root in net.ips.iter().filter_map(|ip| ip.tftp_root.as_deref()) {
        line("enable-tftp".into());
        line(format!("tftp-root={}", line_safe("tftp root", root)?));
    }
    let mut served: Vec<&Ip> = Vec::new();
    for v6 in [false, true] {
        served.extend(net.ips.iter().find(|ip| ip.is_ipv6() == v6 && ip.has_dhcp()));
    }
    let mut addresses = 0;
    for ip in &served {
        let prefix = ip.prefix_length().unwrap_or(64);
        for range in &ip.ranges {
            let lease = lease_time(range.lease.as_ref());
            line(match ip.address {
                IpAddr::V4(_) => {
                    let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0));
                    format!("dhcp-range={},{},{mask}{lease}", range.start, range.end)
                }
                IpAddr::V6(_) => format!("dhcp-range={},{},{prefix}{lease}", range.start, range.end),
            });
            addresses += range.count();
        }
        // Only kept addresses: the network is named by the server's own.
        if ip.ranges.is_empty() {
            line(match ip.address {
                IpAddr::V4(a) => format!("dhcp-range={a},static"),
                IpAddr::V6(a) => format!("dhcp-range={a},static,{prefix}"),
            });
        }
        if !ip.is_ipv6() {
            line("dhcp-no-override".into());
            line("dhcp-authoritative".into());
            if let Some(boot) = &ip.bootp {
                let file = field("boot file", boot.file.trim_start_matches('/')).map(|_| boot.file.as_str());
                let file = file.or_else(|_| line_safe("boot file", &boot.file))?;
                line(match boot.server {
                    Some(server) => format!("dhcp-boot={file},,{server}"),
                    None => format!("dhcp-boot={file}"),
                });
            }
        }
    }
    if addresses > 0 {
        line(format!("dhcp-lease-max={addresses}"));
    }
    if !served.is_empty() {
        line(format!("dhcp-hostsfile={}", quoted(&files.hosts())));
    }
    if net.dns.enabled() {
        line(format!("addn-hosts={}", quoted(&files.addn_hosts())));
    }
    if let Some(mtu) = net.mtu
        && served.iter().any(|ip| !ip.is_ipv6())
    {
        line(format!("dhcp-option=option:mtu,{mtu}"));
    }
    advertise(net, &served, line);
    Ok(())
}

/// Routers of IPv6 are found by advertisements: with DHCP they tell of it, without they are all there is.
fn advertise(net: &Network, served: &[&Ip], line: &mut impl FnMut(String)) {
    if served.iter().any(|ip| ip.is_ipv6()) {
        line("enable-ra".into());
        return;
    }
    let only: Vec<Ipv6Addr> = net
        .ips
        .iter()
        .filter_map(|ip| match ip.address {
            IpAddr::V6(a) => Some(a),
            IpAddr::V4(_) => None,
        })
        .collect();
    for address in only {
        line(format!("dhcp-range={address},ra-only"));
    }
}

/// The hosts file of a network: one kept address a line.
///
/// # Errors
/// Code 27 for a name that would break out of its field.
pub fn hosts(net: &Network) -> Result<String> {
    let mut out = String::new();
    for ip in &net.ips {
        for host in &ip.hosts {
            out.push_str(&host_line(host, ip.is_ipv6())?);
            out.push('\n');
        }
    }
    Ok(out)
}

fn host_line(host: &DhcpHost, v6: bool) -> Result<String> {
    let name = host.name.as_deref().map(|n| field("host name", n)).transpose()?;
    let ip = host.ip.map(|ip| ip.to_string()).unwrap_or_default();
    let parts: Vec<String> = if v6 {
        let id = host.id.as_deref().map(|id| format!("id:{id}"));
        [id, name.map(str::to_string), Some(format!("[{ip}]"))].into_iter().flatten().collect()
    } else {
        let mac = host.mac.as_ref().map(|m| m.as_str().to_string());
        match (mac, name) {
            (Some(mac), name) => {
                [Some(mac), Some(ip), name.map(str::to_string)].into_iter().flatten().collect()
            }
            (None, name) => [name.map(str::to_string), Some(ip)].into_iter().flatten().collect(),
        }
    };
    Ok(format!("{}{}", parts.join(","), lease_time(host.lease.as_ref())))
}

fn addn_hosts(net: &Network) -> Result<String> {
    let mut out = String::new();
    for host in &net.dns.hosts {
        let Some(ip) = host.ip else { continue };
        let _ = write!(out, "{ip}\t");
        for name in &host.hostnames {
            let _ = write!(out, "{}\t", field("host name", name)?);
        }
        out.push('\n');
    }
    Ok(out)
}

//! Which daemon answers: for a connection by its URI, for a call by the kind of object it is about.

use virt_error::{Code, Domain, Error, Result};

/// A daemon behind the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Daemon {
    /// virtqemud.
    Qemu,
    /// virtlxcd.
    Lxc,
    /// virtxend.
    Xen,
    /// virtnetworkd.
    Network,
    /// virtstoraged.
    Storage,
    /// virtsecretd.
    Secret,
    /// virtnodedevd.
    NodeDevice,
    /// virtinterfaced.
    Interface,
    /// virtnwfilterd.
    Nwfilter,
}

/// URI scheme, daemon, and the driver name that `virConnectGetType` answers. Hypervisors come first, in the order in
/// which a connection without a URI tries them.
const SCHEMES: [(&str, Daemon, &str); 9] = [
    ("qemu", Daemon::Qemu, "QEMU"),
    ("lxc", Daemon::Lxc, "LXC"),
    ("xen", Daemon::Xen, "Xen"),
    ("network", Daemon::Network, "network"),
    ("storage", Daemon::Storage, "storage"),
    ("secret", Daemon::Secret, "secret"),
    ("nodedev", Daemon::NodeDevice, "nodedev"),
    ("interface", Daemon::Interface, "interface"),
    ("nwfilter", Daemon::Nwfilter, "nwfilter"),
];

impl Daemon {
    /// All of them.
    pub const ALL: [Self; 9] = {
        let mut all = [Self::Qemu; SCHEMES.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = SCHEMES[i].1;
            i += 1;
        }
        all
    };

    /// The daemon's program name, which also names its sockets.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qemu => "virtqemud",
            Self::Lxc => "virtlxcd",
            Self::Xen => "virtxend",
            Self::Network => "virtnetworkd",
            Self::Storage => "virtstoraged",
            Self::Secret => "virtsecretd",
            Self::NodeDevice => "virtnodedevd",
            Self::Interface => "virtinterfaced",
            Self::Nwfilter => "virtnwfilterd",
        }
    }

    /// What `virConnectGetType` answers on a connection to it.
    pub fn type_name(self) -> &'static str {
        SCHEMES.iter().find(|s| s.1 == self).map_or("", |s| s.2)
    }

    fn scheme(self) -> &'static str {
        SCHEMES.iter().find(|s| s.1 == self).map_or("", |s| s.0)
    }

    /// Whether it runs domains.
    pub fn is_hypervisor(self) -> bool {
        matches!(self, Self::Qemu | Self::Lxc | Self::Xen)
    }
}

/// What a call is about; decides its daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Object {
    /// Domains and the host: the hypervisor of the connection.
    Domain,
    /// Networks and their ports.
    Network,
    /// Storage pools and volumes.
    Storage,
    /// Secrets.
    Secret,
    /// Node devices.
    NodeDevice,
    /// Host interfaces.
    Interface,
    /// Network filters and their bindings.
    Nwfilter,
}

/// Where an opened connection leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The URI as `virConnectGetURI` answers it.
    pub uri: String,
    main: Daemon,
}

impl Route {
    /// Finds the driver of a URI as CONNECT_OPEN brings it (no transport, no query of the client's own). `privileged`
    /// is false for a proxy that serves one user's session; `installed` says which daemons are there.
    pub fn of(uri: &str, privileged: bool, installed: impl Fn(Daemon) -> bool) -> Result<Self> {
        let mode = if privileged { "system" } else { "session" };
        if uri.is_empty() {
            let found = SCHEMES.iter().map(|s| s.1).find(|d| d.is_hypervisor() && installed(*d));
            let main = found.ok_or_else(|| no_driver("default"))?;
            return Ok(Self { uri: format!("{}:///{mode}", main.scheme()), main });
        }
        if uri.bytes().any(|b| b <= b' ' || b >= 0x7f || b"\"<>\\^`{|}".contains(&b)) {
            return Err(Error::internal(Domain::Uri, format!("Unable to parse URI {uri}")));
        }
        let Some((scheme, rest)) = uri.split_once(':') else {
            return Err(no_driver(&format!("URI '{uri}' does not include a driver name")));
        };
        let path = match rest.strip_prefix("//") {
            Some(authority) if authority.starts_with('/') => authority,
            // A host is the client's business: it must not make the proxy a client of another one.
            Some(_) => return Err(no_driver(uri)),
            None => rest,
        };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let known = SCHEMES.iter().find(|s| s.0 == scheme && installed(s.1));
        let main = known.ok_or_else(|| no_driver(uri))?.1;
        let usual = path == "/session" || (privileged && path == "/system");
        let usual = usual || (main == Daemon::Lxc && path == "/");
        if !usual {
            let text = format!("unexpected {scheme} URI path '{path}', try {scheme}:///{mode}");
            return Err(Error::internal(Domain::None, text));
        }
        Ok(Self { uri: uri.to_string(), main })
    }

    /// What `virConnectGetType` answers.
    pub fn type_name(&self) -> &'static str {
        self.main.type_name()
    }

    /// The daemon for an object on this connection. A connection to a secondary driver serves nothing else.
    pub fn daemon(&self, object: Object) -> Option<Daemon> {
        let wanted = match object {
            Object::Domain if self.main.is_hypervisor() => self.main,
            Object::Domain => return None,
            Object::Network => Daemon::Network,
            Object::Storage => Daemon::Storage,
            Object::Secret => Daemon::Secret,
            Object::NodeDevice => Daemon::NodeDevice,
            Object::Interface => Daemon::Interface,
            Object::Nwfilter => Daemon::Nwfilter,
        };
        (self.main.is_hypervisor() || self.main == wanted).then_some(wanted)
    }
}

fn no_driver(uri: &str) -> Error {
    Error::new(Code::NoConnect, Domain::None, uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(uri: &str) -> Result<Route> {
        Route::of(uri, true, |d| matches!(d, Daemon::Qemu | Daemon::Network))
    }

    #[test]
    fn uris_lead_to_drivers() {
        assert_eq!(open("").unwrap().uri, "qemu:///system");
        assert_eq!(open("qemu:///system?x=y").unwrap().type_name(), "QEMU");
        assert!(open("qemu:///session").is_ok());
        assert_eq!(open("network:///system").unwrap().type_name(), "network");
        assert_eq!(Route::of("", false, |_| true).unwrap().uri, "qemu:///session");
        assert!(Route::of("qemu:///system", false, |_| true).is_err());
    }

    #[test]
    fn refusals_are_the_references() {
        let text = |uri| open(uri).unwrap_err().message();
        assert_eq!(text("foo:///system"), "no connection driver available for foo:///system");
        assert_eq!(text("lxc:///system"), "no connection driver available for lxc:///system");
        assert_eq!(text("qemu+unix:///system"), "no connection driver available for qemu+unix:///system");
        assert_eq!(
            text("garbage"),
            "no connection driver available for URI 'garbage' does not include a driver name"
        );
        assert_eq!(
            text("qemu:///foo"),
            "internal error: unexpected qemu URI path '/foo', try qemu:///system"
        );
        assert_eq!(text("a b:///"), "internal error: Unable to parse URI a b:///");
        assert!(open("qemu://host/system").is_err());
    }

    #[test]
    fn a_secondary_driver_serves_only_itself() {
        let network = open("network:///system").unwrap();
        assert_eq!(network.daemon(Object::Network), Some(Daemon::Network));
        assert_eq!(network.daemon(Object::Domain), None);
        assert_eq!(network.daemon(Object::Storage), None);
        let qemu = open("").unwrap();
        assert_eq!(qemu.daemon(Object::Domain), Some(Daemon::Qemu));
        assert_eq!(qemu.daemon(Object::Storage), Some(Daemon::Storage));
    }
}

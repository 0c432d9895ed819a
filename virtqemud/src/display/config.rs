//! What qemu.conf says of VNC and SPICE servers.

use std::path::Path;

use virt_daemon::Conf;
use virt_error::Result;

use crate::command::TlsSettings;

/// Certificates of everything that has no folder of its own.
const DEFAULT_CERTIFICATES: &str = "/etc/pki/qemu";

/// Both kinds of servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Displays {
    /// VNC.
    pub vnc: Server,
    /// SPICE.
    pub spice: Server,
}

/// What holds for all servers of a kind whose document does not say otherwise.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub listen: String,
    /// A server without an address gets a unix socket in the guest's own folder.
    pub auto_socket: bool,
    /// The password of guests that have none of their own; an empty one lets nobody in.
    pub password: Option<String>,
    /// Whether TLS is offered.
    pub tls: bool,
    /// Certificates.
    pub certificates: TlsSettings,
    /// Users are checked by SASL.
    pub sasl: bool,
    /// Folder of QEMU's own SASL configuration.
    pub sasl_dir: Option<String>,
}

/// Says nothing of the password.
impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("listen", &self.listen).field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl Default for Displays {
    /// qemu.conf without any line in it.
    fn default() -> Self {
        let server = Server {
            listen: "127.0.0.1".into(),
            auto_socket: false,
            password: None,
            tls: false,
            certificates: TlsSettings { dir: DEFAULT_CERTIFICATES.into(), verify: false },
            sasl: false,
            sasl_dir: None,
        };
        Self { vnc: server.clone(), spice: server }
    }
}

impl Displays {
    /// Reads the keys of both.
    ///
    /// # Errors
    /// A value of the wrong type.
    pub fn read(conf: &Conf) -> Result<Self> {
        Ok(Self { vnc: read(conf, "vnc")?, spice: read(conf, "spice")? })
    }
}

fn read(conf: &Conf, kind: &str) -> Result<Server> {
    let string = |key: &str| conf.string(&format!("{kind}_{key}"));
    let flag = |key: &str| conf.bool(&format!("{kind}_{key}"));
    let own = format!("/etc/pki/libvirt-{kind}");
    let shared = conf.string("default_tls_x509_cert_dir")?.unwrap_or(DEFAULT_CERTIFICATES);
    let dir = match string("tls_x509_cert_dir")? {
        Some(dir) => dir.to_owned(),
        None if Path::new(&own).is_dir() => own,
        None => shared.to_owned(),
    };
    let verify = match flag("tls_x509_verify")? {
        Some(verify) => verify,
        None => conf.bool("default_tls_x509_verify")?.unwrap_or(false),
    };
    Ok(Server {
        listen: string("listen")?.unwrap_or("127.0.0.1").into(),
        auto_socket: flag("auto_unix_socket")?.unwrap_or(false),
        password: string("password")?.map(str::to_owned),
        tls: flag("tls")?.unwrap_or(false),
        certificates: TlsSettings { dir, verify },
        sasl: flag("sasl")?.unwrap_or(false),
        sasl_dir: string("sasl_dir")?.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn displays(text: &str) -> Result<Displays> {
        Displays::read(&Conf::parse("qemu.conf", text).expect("a file"))
    }

    #[test]
    fn nothing_said_is_the_default() {
        let read = displays("").expect("read");
        assert_eq!((read.vnc.listen.as_str(), read.vnc.tls, read.spice.tls), ("127.0.0.1", false, false));
        assert!(read.vnc.password.is_none());
    }

    #[test]
    fn each_kind_has_its_own_keys() {
        let text = "vnc_listen = \"::\"\nvnc_password = \"secret\"\nspice_tls = 1\nvnc_sasl = 1\n\
                    spice_tls_x509_cert_dir = \"/certs\"\ndefault_tls_x509_verify = 1\nvnc_tls_x509_verify = 0\n";
        let read = displays(text).expect("read");
        assert_eq!((read.vnc.listen.as_str(), read.vnc.password.as_deref()), ("::", Some("secret")));
        assert_eq!(
            (read.vnc.tls, read.spice.tls, read.vnc.sasl, read.spice.sasl),
            (false, true, true, false)
        );
        assert_eq!((read.spice.certificates.dir.as_str(), read.spice.certificates.verify), ("/certs", true));
        assert!(!read.vnc.certificates.verify);
        assert!(!format!("{read:?}").contains("secret"));
        assert!(displays("vnc_tls = \"yes\"").is_err());
    }
}

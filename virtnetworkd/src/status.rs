//! What survives a kill of the daemon: /run/libvirt/network/NAME.xml of each active network, and its ports' files, in
//! libvirt's own form.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;
use virt_error::{Domain, Error, Result};
use virt_model::Mode;
use virt_model::network::Network as Document;
use virt_model::network::port::NetworkPort;
use virt_object::store::{load_whole, write_whole};
use virt_xml::{El, Writer, Xml};

use crate::driver::Driver;
use crate::firewall::switch::Removal;
use crate::network::{Network, Published, Work, WorkExt};
use crate::shares;

/// `<networkstatus>`: the running document after what the reference notes of traffic classes, and before how its rules are
/// taken away.
struct Status {
    network: Document,
    firewall: Option<Removal>,
    classes: String,
    floors: u64,
}

impl Xml for Status {
    fn read(e: El<'_>) -> Result<Self> {
        let network = e.child("network").ok_or_else(|| {
            Error::internal(Domain::Network, "status file has no <network>").with("line", e.line())
        })?;
        // The whole document's rules look for their root, so the part is read as a document of its own.
        let mut text = String::new();
        network.to_element().dump(&mut text, 0, true);
        let firewall = e.child("firewall").map(Removal::read).transpose()?;
        // Ports have files of their own, and these two follow from them.
        let network = Document::parse(&text, Mode::STATUS.known())?;
        Ok(Self { network, firewall, classes: String::new(), floors: 0 })
    }
    fn write_attrs(&self, _: &mut Writer) {}
    fn write_children(&self, w: &mut Writer) {
        w.start("class_id");
        w.attr("bitmap", &self.classes);
        w.end();
        w.start("floor");
        w.attr("sum", &self.floors.to_string());
        w.end();
        w.element("network", &self.network);
        if let Some(firewall) = self.firewall.as_ref().filter(|f| !f.actions.is_empty()) {
            w.element("firewall", firewall);
        }
    }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let text = format!("cannot write status file '{}'", path.display());
    move |e| Error::system(Domain::Network, &text, e)
}

/// Writes the status file of a network that runs, or is about to.
///
/// # Errors
/// Code 38 when it cannot be written.
pub fn save(work: &Work, live: &Document, ports: &[NetworkPort]) -> Result<()> {
    let path = work.status_file();
    let firewall = Some(Removal::of(work.driver.firewall.table(), live));
    let (classes, floors) = (shares::classes(ports), shares::sum(ports));
    let status = Status { network: live.clone(), firewall, classes, floors };
    let text = virt_xml::format(&status, "networkstatus", Mode::STATUS);
    write_whole(&path, &[text.as_bytes()], false).map_err(failed(&path))
}

/// Removes a network's status file and its ports' files.
pub fn remove(work: &Work) {
    let dir = ports_dir(&work.driver, &work.published().value.name);
    for result in [std::fs::remove_file(work.status_file()), std::fs::remove_dir_all(&dir)] {
        if let Err(error) = result
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, network = %work.uuid, "a status file stays");
        }
    }
    if let Some(parent) = dir.parent() {
        // Only ever ours and empty now.
        let _ = std::fs::remove_dir(parent);
    }
}

fn ports_dir(driver: &Driver, name: &str) -> PathBuf {
    driver.folders.run.join(name).join("ports")
}

/// Writes a port's file.
///
/// # Errors
/// Code 38 when it cannot be written.
pub fn save_port(work: &Work, port: &NetworkPort) -> Result<()> {
    let dir = ports_dir(&work.driver, &work.published().value.name);
    let path = dir.join(format!("{}.xml", port.uuid.unwrap_or_default()));
    std::fs::create_dir_all(&dir).map_err(failed(&path))?;
    write_whole(&path, &[port.format().as_bytes()], false).map_err(failed(&path))
}

/// Removes a port's file.
pub fn remove_port(work: &Work, uuid: &Uuid) {
    let path = ports_dir(&work.driver, &work.published().value.name).join(format!("{uuid}.xml"));
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!(%error, path = %path.display(), "cannot remove a port's file");
    }
}

/// Reads the status files of networks that ran when the daemon ended, and publishes them as active. With each comes what
/// takes its rules away. Blocking.
///
/// # Errors
/// Code 38 when the folder cannot be read.
pub fn load(driver: &Arc<Driver>) -> Result<Vec<(Arc<Network>, Removal)>> {
    load_whole(&driver.folders.run, Domain::Network, |path| load_one(driver, path))
}

fn load_one(driver: &Arc<Driver>, path: &Path) -> Result<(Arc<Network>, Removal)> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::system(Domain::Network, format!("cannot read '{}'", path.display()), e))?;
    let status: Status = virt_xml::parse(&text, "networkstatus", Mode::STATUS, Domain::Network)?;
    let live = status.network;
    virt_object::names::NETWORK.check(live.name())?;
    let name = live.name().to_string();
    let uuid = live.uuid.ok_or_else(|| Error::internal(Domain::Network, "status file has no UUID"))?;
    let ports = load_ports(&ports_dir(driver, &name));
    let old = driver.networks.by_uuid(&uuid).map(|n| n.published());
    let (config, autostart) = old.map_or((None, false), |o| (o.value.config.clone(), o.value.autostart));
    let published = Published {
        name: name.as_str().into(),
        config,
        live: Some(Arc::new(live)),
        autostart,
        ports: Arc::new(ports),
    };
    driver.networks.remove(&uuid);
    let network = driver.networks.insert(&name, uuid, Network::new(driver, uuid, published))?;
    Ok((network, status.firewall.unwrap_or_default()))
}

fn load_ports(dir: &Path) -> Vec<NetworkPort> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let texts = files.filter_map(|f| std::fs::read_to_string(f.path()).ok());
    let mut ports: Vec<NetworkPort> = texts.filter_map(|t| NetworkPort::parse(&t).ok()).collect();
    ports.retain(|p| p.uuid.is_some());
    ports.sort_by_key(|p| p.uuid);
    ports
}

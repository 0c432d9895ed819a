//! Addresses that nobody told are learned from the card's own packets, on a thread for each card that needs it.
//!
//! ```text
//!   any:   the first address the guest speaks from, in ARP or IPv4; then the thread ends
//!   dhcp:  addresses a server has leased to the card, until the lease is over or given back
//! ```
//!
//! Frames are hostile: a few per second are looked at, nothing but an address and a time is taken from them.

mod packet;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use virt_host::link;
use virt_model::Mac;
use virt_object::store::write_whole;
use virt_packet_sys::Packets;

use crate::bindings;
use crate::driver::Driver;
pub use packet::{Message, dhcp, speaker};

/// How often a thread looks whether it is still wanted, and for leases that are over.
const TURN: Duration = Duration::from_millis(500);
/// How many frames a second are looked at.
const FRAMES: u32 = 20;
/// A thread's stack.
const STACK: usize = 128 * 1024;
/// How many addresses one card may have.
const ADDRESSES: usize = 16;
/// The file of learned addresses.
const FILE: &str = "virtd-learned.json";

/// How addresses are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// From the first packet.
    Any,
    /// From what DHCP servers say.
    Dhcp,
}

/// An address a card has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// When it is over, in seconds since 1970; `None` for never.
    pub until: Option<u64>,
}

/// What a learner is to do.
#[derive(Debug, Clone)]
pub struct Task {
    /// The card's device.
    pub port: String,
    /// The card's address.
    pub mac: Mac,
    /// How.
    pub method: Method,
    /// The only servers that count; all when empty.
    pub servers: Vec<Ipv4Addr>,
    /// What is known.
    pub known: Vec<Lease>,
}

/// A thread that learns; it ends when this is dropped.
#[derive(Debug)]
pub struct Learner(Arc<AtomicBool>);

impl Drop for Learner {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Learner {
    /// Starts to learn.
    pub fn start(driver: &Arc<Driver>, task: Task) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (driver, ended) = (Arc::downgrade(driver), stop.clone());
        let thread = std::thread::Builder::new().name("learn".into()).stack_size(STACK);
        if let Err(error) = thread.spawn(move || run(&driver, &task, &ended)) {
            tracing::error!(%error, "cannot learn a card's address");
        }
        Self(stop)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn run(driver: &Weak<Driver>, task: &Task, stop: &AtomicBool) {
    let busy = driver.upgrade().map(|d| d.busy.token());
    let mut leases = task.known.clone();
    let mut packets = None;
    let mut frame = [0; 1600];
    let (mut second, mut budget) = (Instant::now(), FRAMES);
    while !stop.load(Ordering::Relaxed) && driver.strong_count() > 0 {
        let before = leases.clone();
        leases.retain(|l| l.until.is_none_or(|until| until > now()));
        let Some(socket) = &packets else {
            packets = open(task);
            if packets.is_none() {
                std::thread::park_timeout(TURN);
            }
            continue;
        };
        if second.elapsed() >= Duration::from_secs(1) {
            (second, budget) = (Instant::now(), FRAMES);
        }
        match socket.next(&mut frame, TURN) {
            Ok(Some(seen)) if budget > 0 => {
                budget -= 1;
                look(task, &frame[..seen.length.min(frame.len())], seen.outgoing, &mut leases);
            }
            // A flood waits for the next second; the kernel keeps a few frames and drops the rest.
            Ok(Some(_)) => std::thread::park_timeout(Duration::from_secs(1).saturating_sub(second.elapsed())),
            Ok(None) => {}
            // The device went away; it may come back.
            Err(_) => packets = None,
        }
        if leases != before && tell(driver, task, &leases) && task.method == Method::Any {
            break;
        }
    }
    drop(busy);
}

fn open(task: &Task) -> Option<Packets> {
    let index = link::get(&task.port).ok()??.index;
    let filter = match task.method {
        Method::Any => packet::SPEAKERS,
        Method::Dhcp => packet::DHCP,
    };
    Packets::open(index, filter).ok()
}

/// Takes what a frame tells.
fn look(task: &Task, frame: &[u8], outgoing: bool, leases: &mut Vec<Lease>) {
    match task.method {
        Method::Any if !outgoing => {
            if let Some(address) = speaker(frame, task.mac.0) {
                *leases = vec![Lease { address, until: None }];
            }
        }
        Method::Any => {}
        Method::Dhcp => match dhcp(frame, task.mac.0) {
            // Only what comes from outside is a server's.
            Some(Message::Granted { address, seconds, server })
                if outgoing && (task.servers.is_empty() || task.servers.contains(&server)) =>
            {
                leases.retain(|l| l.address != address);
                if leases.len() < ADDRESSES {
                    let until = seconds.map(|s| now().saturating_add(s.into()));
                    leases.push(Lease { address, until });
                }
            }
            Some(Message::GivenBack { address }) if !outgoing => leases.retain(|l| l.address != address),
            _ => {}
        },
    }
}

/// Has the rules changed; false when that failed.
fn tell(driver: &Weak<Driver>, task: &Task, leases: &[Lease]) -> bool {
    let Some(driver) = driver.upgrade() else { return false };
    let runtime = driver.runtime.clone();
    let done = runtime.block_on(bindings::learned(&driver, task.port.clone(), leases.to_vec()));
    if let Err(error) = &done {
        tracing::error!(?error, port = task.port, "a learned address cannot be used");
    }
    done.is_ok()
}

/// Writes down what was learned, for the next daemon.
pub fn save(driver: &Driver) {
    let bindings = driver.bindings.load();
    let all: BTreeMap<&String, &Vec<Lease>> =
        bindings.value.iter().filter(|(_, b)| !b.leases.is_empty()).map(|(p, b)| (p, &b.leases)).collect();
    let path = driver.folders.run.join(FILE);
    let text = serde_json::to_vec(&all).unwrap_or_default();
    if let Err(error) = write_whole(&path, &[&text], false) {
        tracing::error!(%error, path = %path.display(), "cannot write down what was learned");
    }
}

/// Reads what an earlier daemon has learned; leases that are over are left out.
pub fn load(driver: &Driver) -> BTreeMap<String, Vec<Lease>> {
    let text = std::fs::read(driver.folders.run.join(FILE)).unwrap_or_default();
    let mut all: BTreeMap<String, Vec<Lease>> = serde_json::from_slice(&text).unwrap_or_default();
    let now = now();
    for leases in all.values_mut() {
        leases.retain(|l| l.until.is_none_or(|until| until > now));
        leases.truncate(ADDRESSES);
    }
    all
}

//! Ten thousand defined guests must be cheap: registry, snapshot and idle owner together.

#![allow(clippy::unwrap_used, clippy::unit_arg, reason = "a test stops at the first surprise")]

use std::sync::Arc;

use uuid::Uuid;
use virt_error::Domain;
use virt_object::busy::Busy;
use virt_object::owner::{Class, Kind, Owner, Spec};
use virt_object::registry::{DOMAIN, Entry, Registry};

struct Guest {
    _entry: Entry<String>,
    owner: Owner<u64>,
}

/// Resident memory in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn ten_thousand_objects_are_small() {
    const GUESTS: usize = 10_000;
    let kind = Arc::new(Kind::new(Domain::Qemu, tokio::runtime::Handle::current(), Busy::new()));
    let registry = Arc::new(Registry::new(DOMAIN));
    let before = resident();
    for n in 0..GUESTS {
        let name = format!("guest-{n}");
        let owner = Owner::new(kind.clone(), 0, Arc::new(()));
        let guest = Guest { _entry: Entry::new(name.clone()), owner };
        registry.insert(&name, Uuid::from_u128(n as u128), guest).unwrap();
    }
    for guest in registry.list().iter() {
        guest
            .owner
            .run(Spec::new("x", Class::Modify), |s| Box::pin(async move { Ok(*s += 1) }))
            .await
            .unwrap();
    }
    let each = resident().saturating_sub(before) / GUESTS;
    eprintln!("{each} bytes for each idle object");
    assert!(each < 2048, "{each} bytes for each idle object");
}

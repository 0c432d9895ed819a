use super::*;
use std::time::{Duration, Instant};

const A: Uuid = Uuid::from_u128(1);
const B: Uuid = Uuid::from_u128(2);

fn registry() -> Arc<Registry<&'static str>> {
    Arc::new(Registry::new(DOMAIN))
}

fn message<T>(result: Result<T>) -> String {
    result.err().map(|e| e.message()).unwrap_or_default()
}

#[test]
fn clashes_read_as_the_references() {
    let r = registry();
    r.insert("a", A, "a").unwrap();
    assert_eq!(
        message(r.try_claim("a", B)),
        "operation failed: domain 'a' already exists with uuid 00000000-0000-0000-0000-000000000001"
    );
    assert_eq!(
        message(r.try_claim("b", A)),
        "operation failed: domain 'a' is already defined with uuid 00000000-0000-0000-0000-000000000001"
    );
    assert!(matches!(r.try_claim("a", A), Ok(Some(Claim::Existing(_)))));
}

#[test]
fn a_reservation_is_invisible_but_held() {
    let r = registry();
    let Ok(Some(Claim::New(reservation))) = r.try_claim("a", A) else { panic!("not new") };
    assert!(r.by_name("a").is_none() && r.by_uuid(&A).is_none() && r.is_empty());
    assert!(r.try_claim("a", B).is_err());
    assert!(matches!(r.try_claim("a", A), Ok(None)));
    drop(reservation);
    assert!(matches!(r.try_claim("a", B), Ok(Some(Claim::New(_)))));
}

#[tokio::test]
async fn a_second_definition_waits_for_the_first() {
    let r = registry();
    let Ok(Claim::New(first)) = r.claim("a", A).await else { panic!("not new") };
    let second = tokio::spawn({
        let r = r.clone();
        async move { r.claim("a", A).await }
    });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    first.commit("made");
    let Ok(Claim::Existing(found)) = second.await.unwrap() else { panic!("not existing") };
    assert_eq!(*found, "made");
}

#[test]
fn rename_moves_the_name_once() {
    let r = registry();
    r.insert("a", A, "a").unwrap();
    r.insert("b", B, "b").unwrap();
    assert_eq!(message(r.rename(&A, "a")), "Requested operation is not valid: Can't rename domain to itself");
    assert_eq!(
        message(r.rename(&A, "b")),
        "Requested operation is not valid: domain with name 'b' already exists"
    );
    drop(r.rename(&A, "c").unwrap());
    assert!(r.by_name("a").is_some() && r.try_claim("c", Uuid::from_u128(3)).is_ok());
    r.rename(&A, "d").unwrap().commit();
    assert!(r.by_name("a").is_none());
    assert_eq!(*r.by_name("d").unwrap(), "a");
    r.remove(&A).unwrap();
    assert!(r.by_name("d").is_none());
}

#[test]
fn ids_come_and_go() {
    let r = registry();
    r.insert("a", A, "a").unwrap();
    r.set_id(&A, Some(7));
    assert_eq!(*r.by_id(7).unwrap(), "a");
    r.set_id(&A, Some(8));
    assert!(r.by_id(7).is_none() && r.by_id(8).is_some());
    r.remove(&A);
    assert!(r.by_id(8).is_none());
}

#[test]
fn lists_keep_their_order_and_are_cheap() {
    let r: Arc<Registry<u128>> = Arc::new(Registry::new(DOMAIN));
    for n in 0..10_000u128 {
        r.insert(&format!("guest-{n}"), Uuid::from_u128(n), n).unwrap();
    }
    assert!(r.list().iter().map(|o| **o).eq(0..10_000));
    let start = Instant::now();
    for _ in 0..1000 {
        assert_eq!(r.list().len(), 10_000);
    }
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
    r.remove(&Uuid::from_u128(5));
    assert_eq!(r.list().len(), 9_999);
}

#[tokio::test]
async fn snapshots_carry_a_generation() {
    let e = Entry::new("old");
    let before = e.load();
    assert_eq!((before.generation, before.value), (1, "old"));
    assert_eq!(e.publish("new"), 2);
    assert_eq!(e.load().value, "new");
    assert_eq!(before.value, "old");
    assert_eq!(e.wait_for(2).await.generation, 2);
}

#[tokio::test]
async fn waiting_for_a_generation_wakes() {
    let e = Arc::new(Entry::new(0));
    let waiter = tokio::spawn({
        let e = e.clone();
        async move { e.wait_for(3).await.value }
    });
    for n in 1..=2 {
        tokio::task::yield_now().await;
        e.publish(n);
    }
    assert_eq!(waiter.await.unwrap(), 2);
}

#[test]
fn ids_survive_a_restart_and_adoption() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("next-id");
    let ids = IdCounter::open(&path, Domain::Qemu).unwrap();
    assert_eq!((ids.next().unwrap(), ids.next().unwrap()), (1, 2));
    drop(ids);
    let ids = IdCounter::open(&path, Domain::Qemu).unwrap();
    ids.raise_above(9).unwrap();
    ids.raise_above(4).unwrap();
    assert_eq!(ids.next().unwrap(), 10);
    std::fs::write(&path, "rubbish").unwrap();
    assert!(IdCounter::open(&path, Domain::Qemu).is_err());
}

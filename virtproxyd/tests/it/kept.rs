//! Answers that a connection keeps: told without the daemon while nothing changes, and never a moment longer.

use std::sync::atomic::Ordering;

use virt_wire::client::Client;
use virt_wire::remote::{procs, *};

use crate::bed::{Bed, dom, parts};

async fn look_up(client: &Client, name: &str) -> Result<NonnullDomain, virt_error::Error> {
    let args = DomainLookupByNameArgs { name: name.to_string() };
    client.call::<procs::DomainLookupByName>(&args).await.map(|ret| ret.dom)
}

/// How often the daemon is asked meanwhile.
async fn asked<T>(bed: &Bed, act: impl Future<Output = T>) -> (usize, T) {
    let before = bed.state.gets.load(Ordering::Relaxed);
    let done = act.await;
    (bed.state.gets.load(Ordering::Relaxed) - before, done)
}

#[tokio::test]
async fn what_has_not_changed_is_asked_once() {
    let bed = Bed::start();
    let (one, two) = (bed.client().await, bed.client().await);
    // Tests of one process share the count; this holds while no other one changes anything meanwhile.
    let mut least = usize::MAX;
    for _ in 0..20 {
        let (times, ()) = asked(&bed, async {
            for _ in 0..5 {
                assert_eq!(look_up(&one, "vm1").await.unwrap().uuid, [1; 16]);
            }
        })
        .await;
        least = least.min(times);
    }
    assert!(least <= 1, "{least} of five");
    let (times, _) = asked(&bed, look_up(&two, "vm1")).await;
    assert_eq!(times, 1, "another client is another identity");
}

#[tokio::test]
async fn a_change_is_seen_at_once() {
    let bed = Bed::start();
    let client = bed.client().await;
    for id in 1..50 {
        bed.state.set_running("vm1", Some(id));
        assert_eq!(look_up(&client, "vm1").await.unwrap().id, id as i32);
        assert_eq!(look_up(&client, "vm1").await.unwrap().id, id as i32);
        let is = DomainIsActiveArgs { dom: dom("vm1", 1) };
        assert_eq!(client.call::<procs::DomainIsActive>(&is).await.unwrap().active, 1);
        bed.state.set_running("vm1", None);
        assert_eq!(look_up(&client, "vm1").await.unwrap().id, -1);
        assert_eq!(client.call::<procs::DomainIsActive>(&is).await.unwrap().active, 0);
    }
}

#[tokio::test]
async fn errors_are_not_kept() {
    let bed = Bed::start();
    let client = bed.client().await;
    for _ in 0..3 {
        let (times, error) = asked(&bed, look_up(&client, "none")).await;
        assert_eq!((times, parts(&error.unwrap_err()).0), (1, 42));
    }
}

#[tokio::test]
async fn a_list_is_kept_by_its_arguments() {
    let bed = Bed::start();
    let client = bed.client().await;
    bed.state.set_running("vm2", Some(4));
    for _ in 0..3 {
        for (flags, names) in [(1, &["vm2"][..]), (2, &["vm1"]), (3, &["vm1", "vm2"])] {
            let args = ConnectListAllDomainsArgs { need_results: 1, flags };
            let got = client.call::<procs::ConnectListAllDomains>(&args).await.unwrap();
            assert_eq!(got.domains.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), names);
        }
    }
}

#[tokio::test]
async fn a_new_daemon_is_asked_anew() {
    let mut bed = Bed::start();
    let client = bed.client().await;
    for id in 1..4 {
        look_up(&client, "vm1").await.unwrap();
        bed.kill_fake();
        bed.state.set_running("vm1", Some(id));
        bed.start_fake();
        assert_eq!(look_up(&client, "vm1").await.unwrap().id, id as i32);
    }
}

//! Clients that send garbage, or do not read, while others work.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use virt_testkit::hostile::hostile_session;
use virt_wire::frame::OutFrame;
use virt_wire::remote::{procs, *};

use crate::bed::{Bed, dom};

#[tokio::test]
async fn garbage_on_one_link_while_another_works() {
    let bed = Bed::start();
    let good = bed.client().await;
    let attack = async {
        let mut total = virt_testkit::hostile::Report::default();
        for seed in 0..4 {
            total.add(hostile_session(&bed.socket(), "qemu:///system", seed, 250).await.unwrap());
        }
        total
    };
    let work = async {
        let mut calls = 0_u32;
        loop {
            good.call::<procs::DomainIsActive>(&DomainIsActiveArgs { dom: dom("vm1", 1) }).await.unwrap();
            calls += 1;
            tokio::task::yield_now().await;
            if calls.is_multiple_of(64) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let report = tokio::select! {
        report = attack => report,
        () = work => unreachable!("it works for ever"),
    };
    assert!(report.is_clean(), "{report:?}");
    good.call::<procs::ConnectGetLibVersion>(&()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_harms_only_itself() {
    let bed = Bed::start();
    let good = bed.client().await;
    let mut deaf = UnixStream::connect(bed.socket()).await.unwrap();
    let open = ConnectOpenArgs { name: Some("qemu:///system".into()), flags: 0 };
    deaf.write_all(&OutFrame::call::<procs::AuthList>(0, &()).unwrap().into_bytes()).await.unwrap();
    deaf.write_all(&OutFrame::call::<procs::ConnectOpen>(1, &open).unwrap().into_bytes()).await.unwrap();
    // Calls without end: at some point the proxy stops to read them.
    let call = OutFrame::call::<procs::ConnectGetUri>(2, &()).unwrap().into_bytes().repeat(1000);
    let mut sent = 0_usize;
    while timeout(Duration::from_millis(500), deaf.write_all(&call)).await.is_ok() {
        sent += call.len();
        assert!(sent < 64 * 1024 * 1024, "the proxy takes calls without end");
        good.call::<procs::ConnectGetLibVersion>(&()).await.unwrap();
    }
    good.call::<procs::ConnectGetHostname>(&()).await.unwrap();
    // When it reads again, it is served again.
    let mut buffer = vec![0; 1 << 16];
    assert!(deaf.read(&mut buffer).await.unwrap() > 0);
}

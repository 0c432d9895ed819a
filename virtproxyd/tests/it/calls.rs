//! Calls through to the daemon and back.

use virt_wire::remote::{procs, *};

use crate::bed::{Bed, dom, parts};

#[tokio::test]
async fn look_up_and_list() {
    let bed = Bed::start();
    let client = bed.client().await;
    let by_name = DomainLookupByNameArgs { name: "vm1".into() };
    let found = client.call::<procs::DomainLookupByName>(&by_name).await.unwrap().dom;
    assert_eq!(found, dom("vm1", 1));
    let by_uuid = DomainLookupByUuidArgs { uuid: [2; 16] };
    assert_eq!(client.call::<procs::DomainLookupByUuid>(&by_uuid).await.unwrap().dom.name, "vm2");
    let nosuch = DomainLookupByNameArgs { name: "nosuch".into() };
    let error = client.call::<procs::DomainLookupByName>(&nosuch).await.unwrap_err();
    assert_eq!(
        parts(&error),
        (42, 10, "Domain not found: no domain with matching name 'nosuch'".to_string())
    );

    bed.state.set_running("vm2", Some(4));
    let by_id = DomainLookupByIdArgs { id: 4 };
    assert_eq!(client.call::<procs::DomainLookupById>(&by_id).await.unwrap().dom.id, 4);
    let error = client.call::<procs::DomainLookupById>(&DomainLookupByIdArgs { id: -1 }).await.unwrap_err();
    assert_eq!(error.message(), "id in virDomainLookupByID must be zero or greater");

    let all = ConnectListAllDomainsArgs { need_results: 1, flags: 3 };
    let ret = client.call::<procs::ConnectListAllDomains>(&all).await.unwrap();
    assert_eq!((ret.ret, ret.domains[0].id, ret.domains[1].id), (2, -1, 4));
    let count = ConnectListAllDomainsArgs { need_results: 0, flags: 3 };
    let ret = client.call::<procs::ConnectListAllDomains>(&count).await.unwrap();
    assert_eq!((ret.ret, ret.domains.len()), (2, 0));
    assert_eq!(client.call::<procs::ConnectNumOfDomains>(&()).await.unwrap().num, 1);
    assert_eq!(client.call::<procs::ConnectNumOfDefinedDomains>(&()).await.unwrap().num, 1);
    let ids =
        client.call::<procs::ConnectListDomains>(&ConnectListDomainsArgs { maxids: 10 }).await.unwrap().ids;
    assert_eq!(ids, [4]);
    let names = ConnectListDefinedDomainsArgs { maxnames: 10 };
    assert_eq!(client.call::<procs::ConnectListDefinedDomains>(&names).await.unwrap().names, ["vm1"]);
    let too_many = ConnectListDefinedDomainsArgs { maxnames: 99_999 };
    assert_eq!(
        client.call::<procs::ConnectListDefinedDomains>(&too_many).await.unwrap_err().code() as i32,
        39
    );
}

#[tokio::test]
async fn small_questions_come_from_the_row() {
    let bed = Bed::start();
    let client = bed.client().await;
    let d = || dom("vm1", 1);
    assert_eq!(
        client.call::<procs::DomainGetOsType>(&DomainGetOsTypeArgs { dom: d() }).await.unwrap().r#type,
        "hvm"
    );
    assert_eq!(
        client.call::<procs::DomainIsActive>(&DomainIsActiveArgs { dom: d() }).await.unwrap().active,
        0
    );
    let persistent =
        client.call::<procs::DomainIsPersistent>(&DomainIsPersistentArgs { dom: d() }).await.unwrap();
    assert_eq!(persistent.persistent, 1);
    let state =
        client.call::<procs::DomainGetState>(&DomainGetStateArgs { dom: d(), flags: 0 }).await.unwrap();
    assert_eq!(state.state, 5);
    let error =
        client.call::<procs::DomainGetState>(&DomainGetStateArgs { dom: d(), flags: 4 }).await.unwrap_err();
    assert_eq!(error.message(), "unsupported flags (0x4) in function qemuDomainGetState");
    let info = client.call::<procs::DomainGetInfo>(&DomainGetInfoArgs { dom: d() }).await.unwrap();
    assert_eq!((info.state, info.max_mem, info.nr_virt_cpu, info.cpu_time), (5, 262_144, 2, 5));
    let hostname = client.call::<procs::ConnectGetHostname>(&()).await.unwrap().hostname;
    assert_eq!(hostname, "fake.example");
    assert_eq!(client.call::<procs::ConnectGetVersion>(&()).await.unwrap().hv_ver, 10_000_002);
}

#[tokio::test]
async fn a_hanging_call_holds_up_nobody() {
    let bed = Bed::start();
    let client = bed.client().await;
    bed.state.hold.send_replace(true);
    let slow = client.clone();
    let hanging = tokio::spawn(async move {
        slow.call::<procs::DomainGetXmlDesc>(&DomainGetXmlDescArgs { dom: dom("vm1", 1), flags: 0 }).await
    });
    // Later calls of the same client, and another client's, overtake it.
    for _ in 0..20 {
        client.call::<procs::DomainGetInfo>(&DomainGetInfoArgs { dom: dom("vm1", 1) }).await.unwrap();
    }
    bed.client().await.call::<procs::ConnectGetHostname>(&()).await.unwrap();
    assert!(!hanging.is_finished());
    bed.state.hold.send_replace(false);
    assert_eq!(hanging.await.unwrap().unwrap().xml, "<domain><name>vm1</name></domain>");
}

#[tokio::test]
async fn only_so_many_calls_of_a_client_run_at_a_time() {
    let bed = Bed::start();
    let client = bed.client().await;
    bed.state.hold.send_replace(true);
    let hanging = |client: virt_wire::client::Client| {
        tokio::spawn(async move {
            client
                .call::<procs::DomainGetXmlDesc>(&DomainGetXmlDescArgs { dom: dom("vm1", 1), flags: 0 })
                .await
        })
    };
    let five: Vec<_> = (0..5).map(|_| hanging(client.clone())).collect();
    let next = client.clone();
    let sixth = tokio::spawn(async move { next.call::<procs::ConnectGetLibVersion>(&()).await });
    // Others are served meanwhile; the sixth waits in the socket.
    for _ in 0..20 {
        bed.client().await.call::<procs::ConnectGetHostname>(&()).await.unwrap();
    }
    assert!(!sixth.is_finished());
    bed.state.hold.send_replace(false);
    sixth.await.unwrap().unwrap();
    for call in five {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn daemons_learn_who_the_client_is_and_when_it_leaves() {
    let bed = Bed::start();
    let client = bed.client_ro().await;
    client.call::<procs::DomainIsActive>(&DomainIsActiveArgs { dom: dom("vm1", 1) }).await.unwrap();
    client.call::<procs::DomainIsActive>(&DomainIsActiveArgs { dom: dom("vm1", 1) }).await.unwrap();
    let session = {
        let sessions = bed.state.sessions.lock();
        assert_eq!(sessions.len(), 1, "one session for all calls of a connection");
        sessions[0].clone()
    };
    let own = rustix::process::getuid().as_raw();
    let identity = session.identity();
    assert_eq!(identity.unix.map(|peer| peer.uid), Some(own));
    assert!(identity.read_only);
    drop(client);
    tokio::time::timeout(std::time::Duration::from_secs(10), session.closed()).await.unwrap();
}

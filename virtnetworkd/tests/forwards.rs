//! Ports of the host that lead to guests, with real packets: a guest and a host outside are network namespaces. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::{Place, alone, driver, nothing_left, run};
use virt_api::network::v1alpha1::network_service_server::NetworkService;
use virt_api::network::v1alpha1::{
    CreatePortRequest, NetworkRef, NetworkRequest, PortForward, PortForwardRequest, PortRange, PortRequest,
};
use virtnetworkd::api::NetworkApi;
use virtnetworkd::{definitions, keeper, lifecycle};

const NET: &str = "<network><name>one</name><metadata>\
    <v:portForwards xmlns:v='https://virtd.example/network/1'>\
    <v:portForward proto='tcp' guest='10.211.1.10'><v:range start='8080' to='80'/><v:range start='9000' end='9003' to='9100'/></v:portForward>\
    </v:portForwards></metadata><forward mode='nat'/><bridge name='vt1' stp='off'/>\
    <ip address='10.211.1.1' prefix='24'><dhcp><range start='10.211.1.2' end='10.211.1.9'/></dhcp></ip></network>";

/// Serves in a guest: tells who asks.
fn serve(guest: &Place, port: u16) {
    guest.within(move || {
        let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let peer = stream.peer_addr().unwrap().ip();
                let _ = write!(stream, "{peer} asks {port}");
            }
        });
    });
}

/// What is answered, or nothing.
fn ask(from: &Place, to: &str) -> Option<String> {
    let to: SocketAddr = to.parse().unwrap();
    from.within(move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(700)).ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).ok()?;
        Some(said)
    })
}

#[test]
fn ports_of_the_host_lead_to_guests() {
    alone(|root| async move {
        let outside = Place::new("out", "198.51.100.2/24", None);
        run("ip", &["address", "add", "198.51.100.1/24", "dev", "h-out"]);
        let first = driver(root.path());
        let network = definitions::define(&first, NET.into()).await.unwrap();
        lifecycle::start(&network).await.unwrap();
        let guest = Place::new("g1", "10.211.1.10/24", Some(("vt1", "10.211.1.1")));
        let neighbour = Place::new("g2", "10.211.1.11/24", Some(("vt1", "10.211.1.1")));
        for port in [80, 9102, 22] {
            serve(&guest, port);
        }
        assert_eq!(ask(&outside, "198.51.100.1:8080").as_deref(), Some("198.51.100.2 asks 80"));
        assert_eq!(
            ask(&outside, "198.51.100.1:9002").as_deref(),
            Some("198.51.100.2 asks 9102"),
            "each its own"
        );
        assert_eq!(
            ask(&neighbour, "198.51.100.1:8080").as_deref(),
            Some("10.211.1.1 asks 80"),
            "from beside"
        );
        let host = Place::here();
        assert!(ask(&host, "198.51.100.1:8080").is_some_and(|a| a.ends_with("asks 80")), "the host itself");
        assert_eq!(ask(&outside, "198.51.100.1:22"), None, "what leads nowhere is closed");
        // The rest is closed too when the sender knows the way in.
        run(
            "nsenter",
            &[
                &format!("--net={}", outside.path()),
                "ip",
                "route",
                "add",
                "10.211.1.0/24",
                "via",
                "198.51.100.1",
            ],
        );
        assert_eq!(ask(&outside, "10.211.1.10:22"), None);

        // A forward of a port, to its card's leased address; it comes when the lease does.
        let api = NetworkApi::new(first.clone());
        let named = NetworkRef { name: "one".into(), ..NetworkRef::default() };
        let xml = "<networkport><uuid>b44df592-0be2-4e95-8c49-41da304fb13f</uuid><owner><name>x</name><uuid>b44df592-0be2-4e95-8c49-41da304fb13e</uuid></owner>\
                   <mac address='52:54:00:00:00:aa'/></networkport>";
        let create = CreatePortRequest { network: Some(named.clone()), xml: xml.into(), flags: 0 };
        let port = api.create_port(tonic::Request::new(create)).await.unwrap().into_inner();
        let forward = |start: u32| PortForwardRequest {
            network: Some(named.clone()),
            port_uuid: port.uuid.clone(),
            forward: Some(PortForward {
                proto: "tcp".into(),
                ranges: vec![PortRange { start, end: 0, to: 22 }],
                ..PortForward::default()
            }),
            flags: 0,
        };
        let taken = api.add_port_forward(tonic::Request::new(forward(8080))).await.unwrap_err();
        assert!(taken.message().contains("takes the same port"), "{taken:?}");
        api.add_port_forward(tonic::Request::new(forward(2222))).await.unwrap();
        assert_eq!(ask(&outside, "198.51.100.1:2222"), None, "no lease yet");
        let lease = r#"[{"ip-address":"10.211.1.10","mac-address":"52:54:00:00:00:aa","expiry-time":0}]"#;
        std::fs::write(first.folders.dnsmasq.join("vt1.status"), lease).unwrap();
        keeper::look(&first).await.unwrap();
        assert_eq!(ask(&outside, "198.51.100.1:2222").as_deref(), Some("198.51.100.2 asks 22"));
        let request = || tonic::Request::new(NetworkRequest { network: Some(named.clone()) });
        let listed = api.list_port_forwards(request()).await.unwrap().into_inner().forwards;
        assert!(
            listed.iter().all(|f| f.leads_to.as_deref() == Some("10.211.1.10")) && listed.len() == 2,
            "{listed:?}"
        );

        // The daemon is killed and comes back.
        let second = driver(root.path());
        definitions::load(&second).unwrap();
        assert_eq!(lifecycle::adopt(&second).await.unwrap(), 1);
        assert_eq!(ask(&outside, "198.51.100.1:2222").as_deref(), Some("198.51.100.2 asks 22"));
        let api = NetworkApi::new(second.clone());
        let gone = PortRequest { network: Some(named.clone()), port_uuid: port.uuid.clone() };
        api.delete_port(tonic::Request::new(gone)).await.unwrap();
        assert_eq!(ask(&outside, "198.51.100.1:2222"), None, "it goes with the port");
        assert!(ask(&outside, "198.51.100.1:8080").is_some());

        // Somebody else's firewall gets in the way, and is named.
        let check = || api.check_firewall(request());
        assert_eq!(check().await.unwrap().into_inner().findings, []);
        run(
            "nft",
            &[
                "add table ip closed; add chain ip closed f { type filter hook forward priority 10; policy drop; }",
            ],
        );
        assert_eq!(ask(&outside, "198.51.100.1:8080"), None);
        let found = check().await.unwrap().into_inner().findings;
        assert!(found.len() == 2 && found.iter().all(|f| f.table == "closed" && f.certain), "{found:?}");
        run("nft", &[&found[0].cure.replace("nft ", "")]);
        assert!(ask(&outside, "198.51.100.1:8080").is_some(), "the cure helps");
        assert_eq!(check().await.unwrap().into_inner().findings, []);
        run("nft", &["delete", "table", "ip", "closed"]);

        lifecycle::destroy(&second.networks.by_name("one").unwrap()).await.unwrap();
        nothing_left(&second);
    });
}

//! The descriptor channel: tickets, offers, and peers that misbehave.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use virt_error::Code;
use virt_rpc::client::{Client, ClientSession, Daemon};

use crate::harness::*;

#[tokio::test]
async fn a_ticket_fetches_its_descriptor_once() {
    let host = Host::start().await;
    let session = ClientSession::open(&host.daemon(), Client::default()).await.unwrap();
    let ticket = unhex(&command_in(&session, "park").await.unwrap());
    let mut end = UnixStream::from(session.claim(&ticket).await.unwrap());
    let mut text = String::new();
    end.read_to_string(&mut text).unwrap();
    assert_eq!(text, "parked");
    assert_eq!(session.claim(&ticket).await.unwrap_err().code(), Code::AuthFailed);
    assert_eq!(session.claim(b"short").await.unwrap_err().code(), Code::AuthFailed);
}

#[tokio::test]
async fn another_user_cannot_claim() {
    let host = Host::start().await;
    let daemon = host.daemon();
    let ticket = unhex(&command(&daemon, "park").await.unwrap());
    let (dir, stolen) = (host.dir.path().to_path_buf(), ticket.clone());
    let refused = tokio::task::spawn_blocking(move || {
        as_nobody(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { Daemon::new(dir, NAME).claim(&stolen).await.unwrap_err() })
        })
    });
    if let Some(error) = refused.await.unwrap() {
        assert_eq!(error.code(), Code::AuthFailed);
    }
    assert_eq!(daemon.claim(&ticket).await.unwrap().len(), 1, "the theft did not use the ticket up");
}

#[tokio::test]
async fn offered_descriptors_arrive_in_order() {
    let host = Host::start().await;
    let daemon = host.daemon();
    let pipes: Vec<OwnedFd> = (0..32u8)
        .map(|n| {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(&[b'a' + n % 26]).unwrap();
            reader.into()
        })
        .collect();
    let borrowed: Vec<_> = pipes.iter().map(AsFd::as_fd).collect();
    let token = daemon.offer(&borrowed).await.unwrap();
    let taken = command(&daemon, &format!("take {}", hex(&token))).await.unwrap();
    assert_eq!(taken, "abcdefghijklmnopqrstuvwxyzabcdef");
    assert!(command(&daemon, &format!("take {}", hex(&token))).await.is_err());
    assert!(daemon.offer(&[]).await.is_err());
    let many = vec![borrowed[0]; 33];
    assert!(daemon.offer(&many).await.is_err());
}

#[tokio::test]
async fn misbehaving_peers_hurt_nobody_else() {
    let host = Host::start().await;
    let daemon = host.daemon();
    let path = SocketAddrUnix::new(daemon.paths().descriptors.as_path()).unwrap();
    let connect = || {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        rustix::net::connect(&socket, &path).unwrap();
        socket
    };
    let before = open_descriptors();
    let mut random = 1u32;
    for round in 0..300usize {
        let socket = connect();
        let bytes: Vec<u8> = (0..round * 60)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 24) as u8
            })
            .collect();
        // Too long ones may be refused by the kernel; silent ones send nothing.
        if round % 7 != 0 {
            let _ = rustix::net::send(&socket, &bytes, SendFlags::NOSIGNAL);
        }
        drop(socket);
        tokio::task::yield_now().await;
    }
    let ticket = unhex(&command(&daemon, "park").await.unwrap());
    assert_eq!(daemon.claim(&ticket).await.unwrap().len(), 1);
    for _ in 0..200 {
        if open_descriptors() <= before + 4 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("descriptors leak: {before} before, {} after", open_descriptors());
}

fn open_descriptors() -> usize {
    // Tests run as threads of one process under plain `cargo test`; only sockets of this folder would be exact, so the
    // bound in the test is loose.
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

//! Round trips of small calls, without and with the hop to a daemon. To read the times:
//! `VIRT_SPEED_CALLS=20000 cargo test --release -p virtproxyd speed -- --nocapture`. `VIRT_REFERENCE_SOCKET` names the
//! socket of a reference daemon to be timed beside.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use virt_wire::Procedure;
use virt_wire::frame::OutFrame;
use virt_wire::remote::{procs, *};

use crate::bed::{Bed, dom};

fn calls() -> usize {
    std::env::var("VIRT_SPEED_CALLS").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

fn exchange(socket: &mut UnixStream, frame: &[u8]) -> Vec<u8> {
    socket.write_all(frame).unwrap();
    let mut word = [0; 4];
    socket.read_exact(&mut word).unwrap();
    let mut rest = vec![0; u32::from_be_bytes(word) as usize - 4];
    socket.read_exact(&mut rest).unwrap();
    rest
}

fn open(path: &Path) -> UnixStream {
    let mut socket = UnixStream::connect(path).unwrap();
    exchange(&mut socket, &OutFrame::call::<procs::AuthList>(0, &()).unwrap().into_bytes());
    let open = ConnectOpenArgs { name: Some("qemu:///system".into()), flags: 0 };
    exchange(&mut socket, &OutFrame::call::<procs::ConnectOpen>(1, &open).unwrap().into_bytes());
    socket
}

fn time<P: Procedure>(what: &str, path: &Path, args: &P::Args) {
    let mut socket = open(path);
    let frame = OutFrame::call::<P>(2, args).unwrap().into_bytes();
    let mut times: Vec<_> = (0..calls())
        .map(|_| {
            let begin = Instant::now();
            let reply = exchange(&mut socket, &frame);
            assert_eq!(reply[20..24], [0; 4], "{what} fails");
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("{what:32} p50 {:>9.1?}  p99 {:>9.1?}", times[times.len() / 2], times[times.len() * 99 / 100]);
}

fn all(name: &str, path: &Path, existing: bool) {
    time::<procs::ConnectGetLibVersion>(&format!("{name}: library version"), path, &());
    time::<procs::ConnectNumOfDomains>(&format!("{name}: number of domains"), path, &());
    if existing {
        let args = DomainIsActiveArgs { dom: dom("vm1", 1) };
        time::<procs::DomainIsActive>(&format!("{name}: is active"), path, &args);
    }
}

#[tokio::test]
async fn speed() {
    let bed = Bed::start();
    let socket = bed.socket();
    tokio::task::spawn_blocking(move || all("proxy", &socket, true)).await.unwrap();
    if let Some(reference) = std::env::var_os("VIRT_REFERENCE_SOCKET").map(PathBuf::from) {
        tokio::task::spawn_blocking(move || all("reference", &reference, false)).await.unwrap();
    }
}

//! The client against the fake, and against the real emulator where it is installed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::commands::{Getfd, QueryChardev, QueryStatus, Quit, SystemPowerdown};
use super::fake::{self, Act};
use super::{Client, Delivery, Error, Events, MAX_EVENTS, MAX_IN_FLIGHT, MAX_LINE};

const PATIENCE: Duration = Duration::from_secs(10);

async fn client(
    script: impl FnMut(&str, &serde_json::Value) -> Vec<Act> + Send + 'static,
) -> (Client, Events) {
    Client::over(fake::start(script), PATIENCE).await.expect("greeted")
}

fn running() -> Act {
    Act::Return(json!({"running": true, "status": "running", "unknown": [1, {"deep": 2}]}))
}

#[tokio::test]
async fn answers_and_version() {
    let (c, _events) = client(|_, _| vec![running()]).await;
    assert_eq!(c.version(), (10, 0, 2));
    let status = c.run(&QueryStatus {}).await.expect("answered");
    assert!(status.running);
    assert_eq!(status.status, "running");
}

#[tokio::test]
async fn refusals_keep_the_connection() {
    let (c, _events) = client(|name, _| match name {
        "query-chardev" => vec![Act::Fail("no such thing")],
        _ => vec![running()],
    })
    .await;
    let e = c.run(&QueryChardev {}).await.expect_err("refused");
    assert_eq!(e.to_string(), "unable to execute QEMU command 'query-chardev': no such thing");
    assert!(!e.is_fatal());
    c.run(&QueryStatus {}).await.expect("still answers");
}

#[tokio::test]
async fn answers_may_come_in_any_order() {
    // The fake holds the first answer back until the second command.
    let mut first = true;
    let (c, _events) = client(move |name, _| {
        if std::mem::take(&mut first) {
            return vec![Act::Hang];
        }
        assert_eq!(name, "query-chardev");
        let late = json!({"return": {"running": false, "status": "paused"}, "id": "libvirt-2"});
        vec![
            Act::Return(json!([{"label": "charserial0", "filename": "pty:/dev/pts/7"}])),
            Act::Bytes(format!("{late}\r\n").into_bytes()),
        ]
    })
    .await;
    let status = QueryStatus {};
    let chardev = QueryChardev {};
    let (a, b) = tokio::join!(c.run(&status), c.run(&chardev));
    assert_eq!(a.expect("status").status, "paused");
    assert_eq!(b.expect("chardevs")[0].filename, "pty:/dev/pts/7");
}

#[tokio::test]
async fn a_hung_monitor_costs_its_deadline_only() {
    let (c, _events) = client(|_, _| vec![Act::Hang]).await;
    let begun = Instant::now();
    let e = c.run_within(&QueryStatus {}, Duration::from_millis(50)).await.expect_err("hangs");
    assert!(matches!(e, Error::Timeout { .. }), "{e}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(c.pending().is_none(), "the waiter is forgotten");
}

#[tokio::test]
async fn a_dead_qemu_fails_every_waiter() {
    let (c, mut events) = client(|name, _| match name {
        "quit" => vec![Act::Close],
        _ => vec![Act::Hang],
    })
    .await;
    let quit = Quit {};
    let status = QueryStatus {};
    let (a, b, d) = tokio::join!(c.run(&status), c.run(&status), c.run(&quit));
    for e in [a.err(), b.err(), d.err()] {
        assert!(matches!(e, Some(Error::Closed)), "{e:?}");
    }
    c.ended().await;
    assert_eq!(events.next().await, Delivery::Closed);
    assert!(matches!(c.run(&status).await, Err(Error::Closed)), "later commands fail at once");
}

#[tokio::test]
async fn events_keep_their_order_and_time() {
    let stamp = json!({"seconds": 1700000000, "microseconds": 42});
    let (c, mut events) = client(move |_, _| {
        vec![
            Act::Event(json!({"event": "POWERDOWN", "timestamp": stamp})),
            Act::Event(json!({"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}})),
            Act::Return(json!({})),
        ]
    })
    .await;
    c.run(&SystemPowerdown {}).await.expect("asked");
    let Delivery::Event(first) = events.next().await else { panic!("no event") };
    assert_eq!((first.name.as_str(), first.seconds, first.micros), ("POWERDOWN", 1_700_000_000, 42));
    let Delivery::Event(second) = events.next().await else { panic!("no event") };
    assert_eq!((second.name.as_str(), second.flag("guest")), ("SHUTDOWN", Some(true)));
    assert_eq!(second.seconds, -1);
}

#[tokio::test]
async fn a_flood_of_events_is_counted_not_kept() {
    let (c, mut events) = client(|_, _| {
        let mut acts: Vec<_> = (0..MAX_EVENTS + 10)
            .map(|_| Act::Event(json!({"event": "RTC_CHANGE", "data": {"offset": 1}})))
            .collect();
        acts.push(Act::Return(json!({})));
        acts
    })
    .await;
    c.run(&SystemPowerdown {}).await.expect("commands are not held up by events");
    let mut seen = 0;
    loop {
        match events.next().await {
            Delivery::Event(_) => seen += 1,
            Delivery::Lost(n) => {
                assert_eq!((seen, n), (MAX_EVENTS, 10));
                break;
            }
            Delivery::Closed => panic!("closed"),
        }
    }
}

#[tokio::test]
async fn hostile_bytes_end_the_connection_cleanly() {
    let deep = "[".repeat(100_000);
    let cases: Vec<Vec<u8>> = vec![
        b"\xff\xfe garbage\r\n".to_vec(),
        b"{\"return\": {}}\r\n".to_vec(),
        b"{\"return\": {}, \"id\": 7}\r\n".to_vec(),
        b"[1,2,3]\r\n".to_vec(),
        format!("{{\"event\": {deep}\r\n").into_bytes(),
        format!("{{\"id\": \"libvirt-2\", \"return\": {deep}\r\n").into_bytes(),
        b"{\"event\": 5}\r\n".to_vec(),
        vec![b'x'; MAX_LINE + 1],
    ];
    for bytes in cases {
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).to_string();
        let (c, _events) = client(move |_, _| vec![Act::Bytes(bytes.clone())]).await;
        let e = c.run(&QueryStatus {}).await.expect_err("fails");
        assert!(e.is_fatal(), "{head}: {e:?}");
        c.ended().await;
    }
}

#[tokio::test]
async fn wrong_answer_types_are_errors_of_that_command_only() {
    let mut n = 0;
    let (c, _events) = client(move |_, _| {
        n += 1;
        match n {
            1 => vec![Act::Return(json!("a string"))],
            2 => vec![Act::Return(json!({"running": "yes"}))],
            _ => vec![running()],
        }
    })
    .await;
    for _ in 0..2 {
        let e = c.run(&QueryStatus {}).await.expect_err("wrong type");
        assert!(matches!(e, Error::Answer { .. }), "{e:?}");
    }
    c.run(&QueryStatus {}).await.expect("goes on");
}

#[tokio::test]
async fn the_number_of_commands_in_flight_is_bounded() {
    let (c, _events) = client(|_, _| vec![Act::Hang]).await;
    let held: Vec<_> = (0..MAX_IN_FLIGHT)
        .map(|_| {
            let c = c.clone();
            tokio::spawn(async move { c.run_within(&QueryStatus {}, PATIENCE).await })
        })
        .collect();
    while c.shared_waiting() < MAX_IN_FLIGHT {
        tokio::task::yield_now().await;
    }
    assert!(matches!(c.run(&QueryStatus {}).await, Err(Error::Busy)));
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn no_greeting_is_a_timeout_and_a_bad_one_an_error() {
    let (ours, _theirs) = UnixStream::pair().expect("pair");
    let e = Client::over(ours, Duration::from_millis(20)).await.err();
    assert!(matches!(e, Some(Error::Timeout { .. })), "{e:?}");
    let (ours, mut theirs) = UnixStream::pair().expect("pair");
    theirs.write_all(b"SSH-2.0-OpenSSH\r\n").await.expect("sent");
    let e = Client::over(ours, PATIENCE).await.err();
    assert!(matches!(e, Some(Error::Protocol(_))), "{e:?}");
}

#[tokio::test]
async fn the_first_command_has_as_long_as_the_greeting() {
    // A machine that is set up slowly greets at once and answers later.
    let (ours, mut theirs) = UnixStream::pair().expect("pair");
    theirs.write_all(format!("{}\r\n", fake::GREETING).as_bytes()).await.expect("sent");
    let patience = Duration::from_millis(20);
    match Client::over(ours, patience).await.err() {
        Some(Error::Timeout { command, after }) => {
            assert_eq!((&*command, after), ("qmp_capabilities", patience));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn passed_commands_return_whole_answers() {
    let (c, _events) = client(|_, args| match args["x"].as_i64() {
        Some(_) => vec![Act::Return(args.clone())],
        None => vec![Act::Fail("why")],
    })
    .await;
    let text = c.pass(r#"{"execute":"anything","arguments":{"x":1}}"#).await.expect("passed");
    assert_eq!(text, r#"{"return":{"x":1},"id":"libvirt-2"}"#);
    let text = c.pass(r#"{"execute":"anything"}"#).await.expect("an error answer is an answer");
    assert!(text.contains("why"), "{text}");
    for bad in ["", "[]", "{}", r#"{"execute":5}"#, "{"] {
        assert!(matches!(c.pass(bad).await, Err(Error::BadCommand(_))), "{bad}");
    }
}

/// Starts a real emulator with a monitor on a socket of `dir`.
fn real_qemu(dir: &std::path::Path) -> Option<tokio::process::Child> {
    let listener = format!("unix:{}/monitor,server=on,wait=off", dir.display());
    let child = tokio::process::Command::new("qemu-system-x86_64")
        .args([
            "-S",
            "-machine",
            "none",
            "-nodefaults",
            "-display",
            "none",
            "-accel",
            "tcg",
            "-qmp",
            &listener,
        ])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    match child {
        Ok(child) => Some(child),
        Err(e) => {
            eprintln!("skipped: no qemu-system-x86_64: {e}");
            None
        }
    }
}

#[tokio::test]
async fn real_qemu_takes_descriptors_and_quits() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(mut qemu) = real_qemu(dir.path()) else { return };
    let path = dir.path().join("monitor");
    let (c, mut events) = loop {
        match Client::connect(&path, PATIENCE).await {
            Ok(pair) => break pair,
            Err(Error::Socket { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(e) => panic!("{e}"),
        }
    };
    assert!(c.version().0 >= 7);
    assert!(!c.run(&QueryStatus {}).await.expect("status").running);
    let named = Getfd { fdname: "pipe0".into() };
    c.run_with_fds(&named, vec![fake::descriptor()]).await.expect("QEMU took the descriptor");
    let e = c.run(&named).await.expect_err("no descriptor came along");
    assert!(matches!(e, Error::Refused { .. }), "{e:?}");
    let e = c.run_untyped("no-such-command", &json!({})).await.expect_err("unknown");
    assert!(e.is_unknown_command(), "{e:?}");
    c.run(&Quit {}).await.expect("quits");
    loop {
        match events.next().await {
            Delivery::Event(e) => assert_eq!(e.name, "SHUTDOWN"),
            Delivery::Closed => break,
            Delivery::Lost(n) => panic!("lost {n}"),
        }
    }
    assert!(qemu.wait().await.expect("ended").success());
}

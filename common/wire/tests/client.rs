//! The client against a server in this process.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::{Arc, Mutex};
use tokio::net::UnixStream;
use virt_error::{Code, Domain, Error};
use virt_testkit::wire_server::{answer, basics, serve};
use virt_wire::client::{Client, StreamPart};
use virt_wire::conn::Outbox;
use virt_wire::frame::{Frame, MessageType, OutFrame, Status};
use virt_wire::program::Procedure;
use virt_wire::remote::{self, events, procs};
use virt_wire::{keepalive, xdr};

/// A client whose server is `handle`.
fn client(handle: impl FnMut(Frame, &Outbox) -> bool + Send + 'static) -> Client {
    let (ours, theirs) = UnixStream::pair().unwrap();
    tokio::spawn(serve(theirs, handle));
    Client::over_unix(ours).unwrap()
}

fn vol() -> remote::NonnullStorageVol {
    remote::NonnullStorageVol { pool: "p".into(), name: "v".into(), key: "k".into() }
}

fn download() -> remote::StorageVolDownloadArgs {
    remote::StorageVolDownloadArgs { vol: vol(), offset: 0, length: 0, flags: 0 }
}

#[tokio::test]
async fn opens_and_closes() {
    let client = client(basics);
    client.authenticate().await.unwrap();
    client.open("test:///default", true).await.unwrap();
    client.close().await.unwrap();
    let e = client.call::<procs::ConnectGetLibVersion>(&()).await.unwrap_err();
    assert_eq!(e.message(), "End of file while reading data: Input/output error");
    assert!(client.is_closed());
}

#[tokio::test]
async fn only_no_authentication_is_known() {
    let client = client(|frame, out| {
        let reply = answer::<procs::AuthList>(&frame, |()| remote::AuthListRet {
            types: vec![remote::AuthType::AUTH_SASL],
        });
        out.try_send(reply.unwrap()).is_ok()
    });
    assert_eq!(client.authenticate().await.unwrap_err().code(), Code::AuthFailed);
}

#[tokio::test]
async fn answers_in_any_order_find_their_calls() {
    let held = Arc::new(Mutex::new(Vec::new()));
    let client = client(move |frame, out| {
        let mut held = held.lock().unwrap();
        held.push(frame);
        if held.len() == 5 {
            for frame in held.drain(..).rev() {
                let reply = answer::<procs::DomainLookupByName>(&frame, |args| {
                    let dom = remote::NonnullDomain { name: args.name, uuid: [0; 16], id: -1 };
                    remote::DomainLookupByNameRet { dom }
                });
                out.try_send(reply.unwrap()).unwrap();
            }
        }
        true
    });
    let calls: Vec<_> = (0..5)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(async move {
                let args = remote::DomainLookupByNameArgs { name: format!("vm{i}") };
                client.call::<procs::DomainLookupByName>(&args).await.unwrap().dom.name
            })
        })
        .collect();
    for (i, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), format!("vm{i}"));
    }
}

#[tokio::test]
async fn pings_are_answered() {
    let (pong, mut pongs) = tokio::sync::mpsc::channel(1);
    let client = client(move |frame, out| {
        if frame.header.prog == keepalive::PROGRAM.number {
            assert_eq!((frame.header.proc, frame.header.kind), (keepalive::PROC_PONG, MessageType::MESSAGE));
            pong.try_send(()).unwrap();
            return true;
        }
        out.try_send(OutFrame::keepalive(keepalive::PROC_PING)).unwrap();
        basics(frame, out)
    });
    client.authenticate().await.unwrap();
    pongs.recv().await.unwrap();
}

fn lifecycle(id: i32) -> OutFrame {
    let dom = remote::NonnullDomain { name: "vm".into(), uuid: [0; 16], id };
    let msg = remote::DomainEventLifecycleMsg { dom, event: 2, detail: 0 };
    let msg = remote::DomainEventCallbackLifecycleMsg { callback_id: 1, msg };
    OutFrame::event::<events::DomainEventCallbackLifecycle>(&msg).unwrap()
}

#[tokio::test]
async fn events_come_in_order_and_are_never_lost_in_silence() {
    let client = client(|frame, out| {
        let n = if frame.header.proc == procs::AuthList::NUMBER { 100 } else { 10_000 };
        for id in 0..n {
            out.try_send(lifecycle(id)).unwrap();
        }
        basics(frame, out)
    });
    let mut received = client.events();
    client.authenticate().await.unwrap();
    for id in 0..100 {
        let frame = received.recv().await.unwrap();
        let msg = frame.event::<events::DomainEventCallbackLifecycle>().unwrap().unwrap();
        assert_eq!(msg.msg.dom.id, id);
    }
    // Nobody reads these: the connection says so rather than dropping some.
    let e = client.open("", false).await.unwrap_err();
    assert_eq!(e.message(), "too many events wait to be read");
}

/// Answers the opening call, then plays `parts`; what the client sends on the stream is answered by OK.
fn streaming(parts: impl Fn(&Frame, &Outbox) + Send + 'static) -> Client {
    client(move |frame, out| {
        match frame.header.kind {
            MessageType::CALL => {
                out.try_send(OutFrame::reply(frame.header, Ok(()))).unwrap();
                parts(&frame, out);
            }
            MessageType::STREAM if frame.header.status != Status::CONTINUE => {
                out.try_send(OutFrame::stream_finish(frame.header)).unwrap();
            }
            _ => {}
        }
        true
    })
}

#[tokio::test]
async fn data_holes_and_the_end() {
    let client = streaming(|call, out| {
        out.try_send(OutFrame::stream_data(call.header, "abc".into()).unwrap()).unwrap();
        out.try_send(OutFrame::stream_hole(call.header, 4096)).unwrap();
        out.try_send(OutFrame::stream_data(call.header, "".into()).unwrap()).unwrap();
    });
    let ((), mut stream) = client.open_stream::<procs::StorageVolDownload>(&download()).await.unwrap();
    assert_eq!(stream.recv().await.unwrap(), Some(StreamPart::Data("abc".into())));
    assert_eq!(stream.recv().await.unwrap(), Some(StreamPart::Hole(4096)));
    assert_eq!(stream.recv().await.unwrap(), None);
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn a_stream_that_fails() {
    let client = streaming(|call, out| {
        let error = Error::new(Code::SystemError, Domain::Streams, "cannot read from stream: I/O error");
        out.try_send(OutFrame::stream_error(call.header, &error)).unwrap();
    });
    let ((), mut stream) = client.open_stream::<procs::StorageVolDownload>(&download()).await.unwrap();
    let e = stream.recv().await.unwrap_err();
    assert_eq!((e.code(), e.message().as_str()), (Code::SystemError, "cannot read from stream: I/O error"));
    // It is over: nothing is left to settle.
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn a_refused_stream_is_not_aborted() {
    let frames = Arc::new(Mutex::new(Vec::new()));
    let seen = frames.clone();
    let client = client(move |frame, out| {
        seen.lock().unwrap().push(frame.header.kind);
        basics(frame, out)
    });
    assert!(client.open_stream::<procs::StorageVolDownload>(&download()).await.is_err());
    client.authenticate().await.unwrap();
    assert_eq!(*frames.lock().unwrap(), [MessageType::CALL, MessageType::CALL]);
}

#[tokio::test]
async fn a_dropped_stream_is_aborted() {
    let (aborted, mut was) = tokio::sync::mpsc::channel(1);
    let client = client(move |frame, out| {
        match frame.header.kind {
            MessageType::CALL => out.try_send(OutFrame::reply(frame.header, Ok(()))).unwrap(),
            _ => aborted.try_send((frame.header.kind, frame.header.status)).unwrap(),
        }
        true
    });
    drop(client.open_stream::<procs::StorageVolDownload>(&download()).await.unwrap());
    assert_eq!(was.recv().await, Some((MessageType::STREAM, Status::ERROR)));
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol() {
    let client = client(|frame, out| {
        let header = frame.header.reply(Status::OK);
        out.try_send(OutFrame::raw(header, xdr::to_bytes(&7u32).unwrap().into()).unwrap()).unwrap();
        true
    });
    let e = client.call::<procs::ConnectGetLibVersion>(&()).await.unwrap_err();
    assert_eq!((e.code(), e.message().as_str()), (Code::Rpc, "Unable to decode message payload"));
}

#[tokio::test]
async fn nobody_listens() {
    let e = Client::connect_unix("/nonexistent/sock").await.err().unwrap();
    assert_eq!(e.message(), "Failed to connect socket to '/nonexistent/sock': No such file or directory");
    assert_eq!(e.code(), Code::SystemError);
}

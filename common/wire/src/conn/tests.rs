use super::*;
use crate::frame::{Frame, FrameError, Header, MessageType, OutFrame, Status};
use crate::remote::procs;
use bytes::Bytes;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use tokio::io::AsyncWriteExt;

const LIMIT: usize = 1 << 20;

fn header(serial: u32) -> Header {
    OutFrame::call_header::<procs::ConnectGetLibVersion>(serial, MessageType::CALL)
}

fn frame(serial: u32, payload: usize) -> OutFrame {
    OutFrame::raw(header(serial), vec![serial as u8; payload].into()).unwrap()
}

fn file(text: &str) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file.into()
}

fn contents(fd: OwnedFd) -> String {
    let mut text = String::new();
    std::fs::File::from(fd).read_to_string(&mut text).unwrap();
    text
}

/// Sizes around every border of the reader: its buffer, the memory it trusts a length with, doubling of that.
const SIZES: &[usize] =
    &[0, 1, 4, 100, 16_355, 16_356, 16_357, 16_384, 70_000, 262_120, 262_144, 262_300, 1_000_000, 0, 3];

async fn all_arrive<S: Source>(mut reader: FrameReader<S>) {
    for (serial, size) in SIZES.iter().enumerate() {
        let got = reader.next().await.unwrap().unwrap();
        assert_eq!(got.header, header(serial as u32));
        assert!(got.payload.len() == *size && got.payload.iter().all(|b| *b == serial as u8));
    }
    assert!(reader.next().await.unwrap().is_none());
}

#[tokio::test]
async fn frames_of_all_sizes_over_a_unix_socket() {
    let (a, b) = UnixStream::pair().unwrap();
    let (_, outbox, drain) = over_unix(a, LIMIT).unwrap();
    let (reader, _outbox, _drain) = over_unix(b, LIMIT).unwrap();
    let send = async move {
        for (serial, size) in SIZES.iter().enumerate() {
            outbox.send(frame(serial as u32, *size)).await.unwrap();
        }
    };
    let (_, drained, ()) = tokio::join!(send, drain.run(), all_arrive(reader));
    drained.unwrap();
}

#[tokio::test]
async fn bytes_that_come_in_pieces() {
    let (mut a, b) = tokio::io::duplex(97);
    let (read, write) = tokio::io::split(b);
    let (reader, _outbox, _drain) = over_stream(read, write, LIMIT);
    let send = async move {
        for (serial, size) in SIZES.iter().enumerate() {
            a.write_all(&frame(serial as u32, *size).into_bytes()).await.unwrap();
        }
    };
    tokio::join!(send, all_arrive(reader));
}

#[tokio::test]
async fn descriptors_arrive_with_their_frame() {
    let (a, b) = UnixStream::pair().unwrap();
    let (_, outbox, drain) = over_unix(a, LIMIT).unwrap();
    let (mut reader, _outbox, _drain) = over_unix(b, LIMIT).unwrap();
    let with_fds = |serial, texts: &[&str]| {
        let header = Header { kind: MessageType::CALL_WITH_FDS, ..header(serial) };
        OutFrame::with_fds(header, &serial, texts.iter().map(|t| file(t)).collect()).unwrap()
    };
    outbox.try_send(frame(0, 5)).unwrap();
    outbox.try_send(with_fds(1, &["one", "two"])).unwrap();
    outbox.try_send(with_fds(2, &[])).unwrap();
    outbox.try_send(with_fds(3, &["three"])).unwrap();
    outbox.try_send(frame(4, 300_000)).unwrap();
    drop(outbox);
    let read = async {
        let mut all = Vec::new();
        while let Some(Frame { header, fds, .. }) = reader.next().await.unwrap() {
            all.push((header.serial, fds.into_iter().map(contents).collect::<Vec<_>>()));
        }
        all
    };
    let (drained, all) = tokio::join!(drain.run(), read);
    drained.unwrap();
    let text = |t: &[&str]| t.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let want =
        [(0, text(&[])), (1, text(&["one", "two"])), (2, text(&[])), (3, text(&["three"])), (4, text(&[]))];
    assert_eq!(all, want);
}

async fn read_error(bytes: &[u8]) -> FrameError {
    let (mut a, b) = tokio::io::duplex(1 << 16);
    a.write_all(bytes).await.unwrap();
    drop(a);
    match FrameReader::new(Plain(b)).next().await {
        Err(ReadError::Frame(e)) => e,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection() {
    assert_eq!(read_error(&[0, 0, 0, 3]).await, FrameError::Length(3));
    assert_eq!(read_error(&[0, 0, 0, 27, 1]).await, FrameError::Length(27));
    assert_eq!(read_error(&[255; 8]).await, FrameError::Length(u32::MAX));
    assert_eq!(read_error(&[0, 0, 0]).await, FrameError::Cut);
    assert_eq!(read_error(&[0, 0, 0, 28, 1, 2]).await, FrameError::Cut);
    // The largest frame, of which nothing comes.
    assert_eq!(read_error(&[2, 0, 0, 4, 1, 2]).await, FrameError::Cut);
    // A byte where a descriptor is due.
    let mut header = Header { kind: MessageType::CALL_WITH_FDS, ..header(0) };
    header.status = Status::OK;
    let mut bytes = OutFrame::raw(self::header(0), Bytes::from_static(&[0, 0, 0, 1])).unwrap().into_bytes();
    bytes[16..20].copy_from_slice(&header.kind.0.to_be_bytes());
    assert_eq!(read_error(&bytes).await, FrameError::Cut);
    bytes.push(0);
    assert_eq!(read_error(&bytes).await, FrameError::Fds(1));
}

#[tokio::test]
async fn the_queue_is_bounded_and_closes() {
    let (a, b) = UnixStream::pair().unwrap();
    let (_, outbox, drain) = over_unix(a, 10_000).unwrap();
    // One frame over the limit is taken while nothing else waits.
    outbox.try_send(frame(0, 20_000)).unwrap();
    assert_eq!(outbox.try_send(frame(1, 0)), Err(OutboxError::Full));
    assert_eq!(outbox.backlog(), 20_028);
    let (mut reader, _outbox, _drain) = over_unix(b, LIMIT).unwrap();
    let task = tokio::spawn(drain.run());
    outbox.send(frame(1, 9_000)).await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap().payload.len(), 20_000);
    outbox.close();
    assert_eq!(outbox.try_send(frame(2, 0)), Err(OutboxError::Closed));
    // What was taken before still goes out.
    assert_eq!(reader.next().await.unwrap().unwrap().payload.len(), 9_000);
    assert!(reader.next().await.unwrap().is_none());
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn senders_learn_that_the_peer_is_gone() {
    let (a, b) = UnixStream::pair().unwrap();
    let (_reader, outbox, drain) = over_unix(a, 1000).unwrap();
    outbox.try_send(frame(0, 500_000)).unwrap();
    let waiting = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.send(frame(1, 500_000)).await }
    });
    let task = tokio::spawn(drain.run());
    tokio::task::yield_now().await;
    drop(b);
    assert!(task.await.unwrap().is_err());
    assert_eq!(waiting.await.unwrap(), Err(OutboxError::Closed));
    assert_eq!(outbox.try_send(frame(2, 0)), Err(OutboxError::Closed));
}

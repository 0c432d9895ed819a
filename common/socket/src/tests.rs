use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

fn pair() -> (Stream, Stream) {
    let (a, b) = UnixStream::pair().unwrap();
    (Stream::new(a).unwrap(), Stream::new(b).unwrap())
}

#[tokio::test]
async fn carries_more_than_the_socket_holds_both_ways() {
    let (mut a, mut b) = pair();
    let sent: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 251) as u8).collect();
    let copy = sent.clone();
    let echo = tokio::spawn(async move {
        let mut got = vec![0; 5_000_000];
        b.read_exact(&mut got).await.unwrap();
        b.write_all(&got).await.unwrap();
        b
    });
    a.write_all(&copy).await.unwrap();
    let mut back = vec![0; sent.len()];
    a.read_exact(&mut back).await.unwrap();
    assert!(back == sent);
    assert!(a.writer.full.is_none(), "the duplicate goes when the bytes are out");
    drop(echo.await.unwrap());
    assert_eq!(a.read(&mut back).await.unwrap(), 0, "the end is seen");
}

#[tokio::test]
async fn small_messages_do_not_get_lost() {
    let (mut a, mut b) = pair();
    let echo = tokio::spawn(async move {
        let mut byte = [0];
        while b.read(&mut byte).await.unwrap() == 1 {
            b.write_all(&byte).await.unwrap();
        }
    });
    for i in 0..2_000_u32 {
        let sent = [i as u8];
        a.write_all(&sent).await.unwrap();
        let mut got = [0];
        a.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent);
    }
    a.shutdown().await.unwrap();
    echo.await.unwrap();
}

#[tokio::test]
async fn a_message_read_by_the_peer_does_not_wake_the_sender() {
    let (a, mut b) = pair();
    let (mut reader, mut writer) = a.into_split();
    writer.write_with(|mut s| s.write(b"x")).await.unwrap();
    let mut tries = 0;
    let reading = async {
        let read = |_: &Socket| {
            tries += 1;
            Err(io::ErrorKind::WouldBlock.into())
        };
        drop(reader.read_with(read).await);
    };
    let peer = async {
        b.read_exact(&mut [0]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    tokio::select! { () = reading => unreachable!("nothing to read"), () = peer => {} }
    assert_eq!(tries, 0);
}

#[tokio::test]
async fn a_peer_that_left_is_an_error_not_a_wait() {
    let (mut a, b) = pair();
    drop(b);
    assert_eq!(a.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn an_answer_is_waited_for_awake_once() {
    let (a, b) = UnixStream::pair().unwrap();
    let (mut asker, mut peer) = (Stream::asking(a).unwrap(), Stream::new(b).unwrap());
    assert!(!wait_awake(), "nothing was asked");
    peer.write_all(b"news").await.unwrap();
    assert!(!wait_awake(), "what comes unasked is not waited for");
    asker.write_all(b"question").await.unwrap();
    assert!(wait_awake(), "something is there to be read");
    assert!(!wait_awake(), "one question, one wait");
    asker.write_all(b"question").await.unwrap();
    asker.read_exact(&mut [0; 4]).await.unwrap();
    assert!(!wait_awake(), "what came is taken for the answer");
    asker.write_all(b"question").await.unwrap();
    assert!(!wait_awake(), "a silent peer is given up");
    asker.write_all(b"question").await.unwrap();
    drop(asker);
    assert!(!wait_awake(), "a closed connection is not looked at");
}

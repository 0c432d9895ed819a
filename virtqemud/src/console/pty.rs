//! A pseudo terminal as a stream of bytes.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use virt_error::{Domain, Error, Result};

const CHUNK: usize = 16 * 1024;

/// Opens the guest's side of a pseudo terminal, without becoming its session.
pub fn open(path: &str) -> Result<OwnedFd> {
    let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
    let failed = |e| Error::system(Domain::None, format!("unable to open '{path}'"), e);
    let flags = i32::try_from(flags.bits()).map_err(|e| failed(io::Error::other(e)))?;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map_err(failed)?;
    Ok(file.into())
}

/// Moves bytes both ways until one side closes.
pub async fn bridge(pty: OwnedFd, client: UnixStream) -> io::Result<()> {
    // The replacement of this function is unsafe; its contract holds, for the descriptor is owned and stays open.
    #[allow(deprecated)]
    let pty = AsyncFd::new(pty)?;
    let (mut from_client, mut to_client) = client.into_split();
    let out = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = read(&pty, &mut buffer).await?;
            if n == 0 {
                return Ok(());
            }
            to_client.write_all(&buffer[..n]).await?;
        }
    };
    let inward = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = from_client.read(&mut buffer).await?;
            if n == 0 {
                return Ok(());
            }
            write_all(&pty, &buffer[..n]).await?;
        }
    };
    tokio::select! {
        done = out => done,
        done = inward => done,
    }
}

async fn read(pty: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut ready = pty.readable().await?;
        let tried = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *buffer)?));
        match tried {
            // The other side of a terminal is gone.
            Ok(Err(e)) if e.raw_os_error() == Some(5) => return Ok(0),
            Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
            Ok(done) => return done,
            Err(_would_block) => {}
        }
    }
}

async fn write_all(pty: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = pty.writable().await?;
        match ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
            Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
            Ok(done) => bytes = &bytes[done?..],
            Err(_would_block) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_and_ends_are_seen() {
        let master = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY)
            .expect("a pty");
        rustix::pty::grantpt(&master).expect("granted");
        rustix::pty::unlockpt(&master).expect("unlocked");
        let name = rustix::pty::ptsname(&master, Vec::new()).expect("a name");
        let slave = open(name.to_str().expect("text")).expect("opened");
        let mut raw = rustix::termios::tcgetattr(&slave).expect("settings");
        raw.make_raw();
        rustix::termios::tcsetattr(&slave, rustix::termios::OptionalActions::Now, &raw).expect("raw");
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let bridge = tokio::spawn(bridge(slave, theirs));
        let (mut read, mut write) = ours.into_split();
        let payload: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        let copy = payload.clone();
        let master = std::sync::Arc::new(master);
        let far = master.clone();
        let echo = std::thread::spawn(move || {
            let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
            while got.len() < copy.len() {
                let n = rustix::io::read(&*far, &mut buffer).expect("read");
                got.extend_from_slice(&buffer[..n]);
            }
            assert!(got == copy, "what the client sent arrived");
            rustix::io::write(&*far, b"done").expect("written");
        });
        write.write_all(&payload).await.expect("sent");
        let mut answer = [0; 4];
        read.read_exact(&mut answer).await.expect("answered");
        assert_eq!(&answer, b"done");
        echo.join().expect("the far side");
        drop(master);
        bridge.await.expect("ran").expect("the end of the terminal is no error");
    }
}

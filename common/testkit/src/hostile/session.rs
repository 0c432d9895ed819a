//! Sends hostile frames and notes what the server makes of them.

use super::frames::{HostileFrame, Trick};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixStream, unix};
use tokio::time::timeout;
use virt_wire::conn::{FrameReader, Plain, ReadError};
use virt_wire::frame::{Frame, MessageType, OutFrame, Status};
use virt_wire::program::Procedure;
use virt_wire::remote::{self, procs};
use virt_wire::xdr::sample::Sampler;

/// A server that says nothing for this long hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Frames on one connection, at most.
const PER_CONNECTION: u64 = 50;
/// Serials of probes begin here, out of the way of the frames' own.
const PROBE: u32 = 0xf000_0000;

/// What happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Frames sent.
    pub frames: u64,
    /// Connections made.
    pub connections: u64,
    /// Error answers, to frames that were not probes.
    pub errors: u64,
    /// Other answers and events.
    pub answers: u64,
    /// Frames after which the server closed the connection.
    pub closed: u64,
    /// Frames after which neither an answer nor the end came in time, by trick.
    pub hung: BTreeMap<Trick, u64>,
    /// What the server sent that is no frame or no answer to anything, by text.
    pub violations: BTreeMap<String, u64>,
}

impl Report {
    /// Whether every frame had an end and everything received made sense.
    pub fn is_clean(&self) -> bool {
        self.hung.is_empty() && self.violations.is_empty()
    }

    /// Adds another session's.
    pub fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.connections += other.connections;
        self.errors += other.errors;
        self.answers += other.answers;
        self.closed += other.closed;
        for (trick, n) in other.hung {
            *self.hung.entry(trick).or_default() += n;
        }
        for (text, n) in other.violations {
            *self.violations.entry(text).or_default() += n;
        }
    }
}

/// Sends `n` frames to the unix socket at `path`, on as many connections as that needs: some before authentication,
/// some after opening `uri`, most on an open one. An error means that the server took no connection or did not serve
/// a decent beginning.
pub async fn hostile_session(path: &Path, uri: &str, seed: u64, n: u64) -> virt_error::Result<Report> {
    let mut s = Sampler::new(seed);
    let mut report = Report::default();
    while report.frames < n {
        let mut link = Link::connect(path).await?;
        report.connections += 1;
        match s.below(8) {
            0 => {}
            1 => link.authenticate().await?,
            _ => {
                link.authenticate().await?;
                link.open(uri).await?;
            }
        }
        for _ in 0..PER_CONNECTION.min(n - report.frames) {
            let frame = HostileFrame::next(&mut s);
            report.frames += 1;
            if !link.provoke(&frame, &mut report).await {
                break;
            }
        }
    }
    Ok(report)
}

struct Link {
    reader: FrameReader<Plain<unix::OwnedReadHalf>>,
    write: unix::OwnedWriteHalf,
    serial: u32,
}

impl Link {
    async fn connect(path: &Path) -> virt_error::Result<Self> {
        let stream =
            timeout(PATIENCE, UnixStream::connect(path)).await.map_err(std::io::Error::from).flatten();
        let stream = stream.map_err(|e| failed(format!("connecting to {}: {e}", path.display())))?;
        let (read, write) = stream.into_split();
        Ok(Self { reader: FrameReader::new(Plain(read)), write, serial: PROBE })
    }

    async fn authenticate(&mut self) -> virt_error::Result<()> {
        self.decent::<procs::AuthList>(&()).await
    }

    async fn open(&mut self, uri: &str) -> virt_error::Result<()> {
        let args = remote::ConnectOpenArgs { name: Some(uri.to_owned()), flags: 0 };
        self.decent::<procs::ConnectOpen>(&args).await
    }

    /// A call that must be served.
    async fn decent<P: Procedure>(&mut self, args: &P::Args) -> virt_error::Result<()> {
        self.serial += 1;
        let call = OutFrame::call::<P>(self.serial, args).map_err(|e| failed(e.to_string()))?;
        let sent = self.write.write_all(&call.into_bytes()).await;
        sent.map_err(|e| failed(format!("a new connection takes no bytes: {e}")))?;
        match timeout(PATIENCE, self.reader.next()).await {
            Ok(Ok(Some(reply))) if reply.header.status == Status::OK => Ok(()),
            other => Err(failed(format!("a decent call on a new connection: {other:?}"))),
        }
    }

    /// Sends the frame and a probe, or the end where a probe would be swallowed; false when the connection is over.
    async fn provoke(&mut self, frame: &HostileFrame, report: &mut Report) -> bool {
        let mut bytes = frame.bytes.clone();
        let end = frame.is_open_ended();
        self.serial += 1;
        if !end {
            // A call that is served at any time: authentication's list.
            let probe = OutFrame::call::<procs::AuthList>(self.serial, &());
            bytes.extend(probe.map(OutFrame::into_bytes).unwrap_or_default());
        }
        // A server that has had enough may close while this is written; that shows at the reading side.
        let _ = self.write.write_all(&bytes).await;
        if end {
            let _ = self.write.shutdown().await;
        }
        loop {
            match timeout(PATIENCE, self.reader.next()).await {
                Ok(Ok(Some(got))) if self.is_probe(&got) => return true,
                Ok(Ok(Some(got))) => note(&got, report),
                Ok(Ok(None)) => {
                    report.closed += 1;
                    return false;
                }
                // A reset is what a close looks like with bytes of ours unread.
                Ok(Err(ReadError::Io(_))) => {
                    report.closed += 1;
                    return false;
                }
                Ok(Err(ReadError::Frame(e))) => {
                    *report.violations.entry(format!("{e} after {:?}", frame.trick)).or_default() += 1;
                    return false;
                }
                Err(_) => {
                    *report.hung.entry(frame.trick).or_default() += 1;
                    return false;
                }
            }
        }
    }

    fn is_probe(&self, got: &Frame) -> bool {
        let h = &got.header;
        h.kind == MessageType::REPLY && h.serial == self.serial && h.proc == procs::AuthList::NUMBER
    }
}

fn note(got: &Frame, report: &mut Report) {
    if got.header.status == Status::ERROR {
        if got.decode::<remote::Error>().is_err() {
            *report.violations.entry("an error that is none".to_owned()).or_default() += 1;
        }
        report.errors += 1;
    } else {
        report.answers += 1;
    }
}

fn failed(text: String) -> virt_error::Error {
    virt_error::Error::internal(virt_error::Domain::Rpc, text)
}

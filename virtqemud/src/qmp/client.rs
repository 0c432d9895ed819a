//! One connection to one monitor.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use virt_host::process::Process;

use super::deadline::deadline;
use super::error::{Error, Result};
use super::event::{self, Events, Sink, WireEvent};
use super::lines::{self, Ended, Lines};
use super::{Command, MAX_EVENT, MAX_EVENTS, MAX_IN_FLIGHT, MAX_LINE};

/// Longest error text that is passed on, in bytes.
const MAX_TEXT: usize = 4096;

/// How often a waiting command looks whether QEMU's process was stopped. Twice in a row ends the wait.
const LOOK: Duration = Duration::from_millis(500);

/// A handle to a monitor; clones share the connection, which ends with the last of them.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What the handle and the tasks share.
struct Shared {
    version: Version,
    next: AtomicU64,
    frames: mpsc::Sender<Frame>,
    waiting: Arc<Mutex<Waiting>>,
    /// QEMU hands descriptors to the command that runs when they arrive: one such command at a time.
    fd_turn: tokio::sync::Mutex<()>,
    ended: watch::Receiver<bool>,
    /// The process behind the monitor, once it is known.
    process: OnceLock<Arc<Process>>,
    reader: tokio::task::AbortHandle,
    writer: tokio::task::AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

/// Commands without an answer yet.
struct Waiting {
    by_id: HashMap<u64, Waiter>,
    /// Commands whose callers gave up and whose answers have not come since. QEMU answers in order, so it has said
    /// nothing to any later command either.
    overdue: BTreeSet<u64>,
    /// Set once, when the connection ends.
    ended: Option<Error>,
}

struct Waiter {
    command: String,
    since: Instant,
    answer: oneshot::Sender<Result<Vec<u8>>>,
}

struct Frame {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// A command that has no answer yet.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The command's name.
    pub command: String,
    /// How long it has been waiting.
    pub age: Duration,
}

/// QEMU's version: major, minor, micro.
pub type Version = (u32, u32, u32);

impl Client {
    /// Connects to the monitor listening at `path`; see [`Client::over`].
    pub async fn connect(path: &Path, patience: Duration) -> Result<(Self, Events)> {
        let stream = timeout(patience, UnixStream::connect(path))
            .await
            .map_err(|_| Error::Timeout { command: "connect".into(), after: patience })?
            .map_err(|e| socket("connect to the monitor", &e))?;
        Self::over(stream, patience).await
    }

    /// Waits up to `patience` for QEMU's greeting, then as long for it to leave negotiation mode: one of the two comes
    /// only when QEMU has set up its machine.
    pub async fn over(stream: UnixStream, patience: Duration) -> Result<(Self, Events)> {
        let (read, write) = stream.into_split();
        let mut lines = Lines::new(read, MAX_LINE);
        let version = timeout(patience, greeting(&mut lines))
            .await
            .map_err(|_| Error::Timeout { command: "greeting".into(), after: patience })??;
        let waiting =
            Arc::new(Mutex::new(Waiting { by_id: HashMap::new(), overdue: BTreeSet::new(), ended: None }));
        let (frames, queue) = mpsc::channel(MAX_IN_FLIGHT);
        let (sink, events) = event::queue(MAX_EVENTS);
        let (end, ended) = watch::channel(false);
        let end = Arc::new(end);
        let reader = tokio::spawn(read_loop(lines, sink, waiting.clone(), end.clone())).abort_handle();
        let writer = tokio::spawn(write_loop(write, queue, waiting.clone(), end)).abort_handle();
        let shared = Shared {
            version,
            next: AtomicU64::new(1),
            frames,
            waiting,
            fd_turn: tokio::sync::Mutex::new(()),
            ended,
            process: OnceLock::new(),
            reader,
            writer,
        };
        let client = Self { shared: Arc::new(shared) };
        client.run_within(&super::commands::QmpCapabilities {}, patience).await?;
        Ok((client, events))
    }

    /// The emulator's version as its greeting told.
    pub fn version(&self) -> Version {
        self.shared.version
    }

    /// Runs a typed command within its usual time.
    pub async fn run<C: Command>(&self, command: &C) -> Result<C::Answer> {
        self.run_within(command, deadline(C::NAME)).await
    }

    /// Runs a typed command within `patience`.
    pub async fn run_within<C: Command>(&self, command: &C, patience: Duration) -> Result<C::Answer> {
        let line = self.ask(C::NAME, command, Vec::new(), patience).await?;
        answer(C::NAME, &line)
    }

    /// Runs a typed command that carries descriptors (`getfd`, `add-fd`).
    pub async fn run_with_fds<C: Command>(&self, command: &C, fds: Vec<OwnedFd>) -> Result<C::Answer> {
        let turn = self.shared.fd_turn.lock();
        let patience = deadline(C::NAME);
        let _turn = timeout(patience, turn)
            .await
            .map_err(|_| Error::Timeout { command: C::NAME.into(), after: patience })?;
        let line = self.ask(C::NAME, command, fds, patience).await?;
        answer(C::NAME, &line)
    }

    /// Runs a command that we have no type for.
    pub async fn run_untyped(&self, name: &str, arguments: &Value) -> Result<Value> {
        let line = self.ask(name, arguments, Vec::new(), deadline(name)).await?;
        answer(name, &line)
    }

    /// As [`Client::run_untyped`], with descriptors.
    pub async fn run_untyped_with_fds(
        &self,
        name: &str,
        arguments: &Value,
        fds: Vec<OwnedFd>,
    ) -> Result<Value> {
        let line = self.ask(name, arguments, fds, deadline(name)).await?;
        answer(name, &line)
    }

    /// Passes a user's whole command object on and returns QEMU's whole answer, an error answer included.
    pub async fn pass(&self, command: &str) -> Result<String> {
        let mut object: serde_json::Map<String, Value> =
            serde_json::from_str(command).map_err(|e| Error::BadCommand(e.to_string()))?;
        let name = match object.get("execute").or_else(|| object.get("exec-oob")) {
            Some(Value::String(name)) => name.clone(),
            _ => return Err(Error::BadCommand("no \"execute\" member".into())),
        };
        if object.contains_key("id") {
            return Err(Error::OwnId);
        }
        let id = self.next_id();
        object.insert("id".into(), Value::String(wire_id(id)));
        let bytes = serde_json::to_vec(&object).map_err(|e| Error::BadCommand(e.to_string()))?;
        let patience = deadline(&name).max(deadline("human-monitor-command"));
        let line = self.send(id, &name, bytes, Vec::new(), patience).await?;
        // The same text without QEMU's white space, members in their order.
        serde_json::from_slice::<Value>(&line)
            .map(|answer| answer.to_string())
            .map_err(|e| Error::Answer { command: name, what: e.to_string() })
    }

    /// The command that has waited longest for its answer.
    pub fn pending(&self) -> Option<Pending> {
        let waiting = self.shared.waiting.lock();
        let oldest = waiting.by_id.values().min_by_key(|w| w.since)?;
        Some(Pending { command: oldest.command.clone(), age: oldest.since.elapsed() })
    }

    /// Names the process behind the monitor: when it is stopped, commands fail soon instead of at their deadline.
    pub fn watch_process(&self, process: Arc<Process>) {
        // A second name for the same monitor would be the same process.
        let _ = self.shared.process.set(process);
    }

    /// True while QEMU owes an answer that its caller gave up: asking more would only wait.
    pub fn is_silent(&self) -> bool {
        !self.shared.waiting.lock().overdue.is_empty()
    }

    /// Returns when QEMU's process stands still and so cannot answer.
    async fn stopped(&self) {
        let Some(process) = self.shared.process.get() else { return std::future::pending().await };
        // A QEMU that owes answers gets no second look.
        let mut seen = self.is_silent();
        loop {
            let stopped = process.is_stopped();
            if stopped && seen {
                return;
            }
            seen = stopped;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the connection has ended.
    pub async fn ended(&self) {
        let mut ended = self.shared.ended.clone();
        // An error means that both tasks are gone, which is an end too.
        let _ = ended.wait_for(|e| *e).await;
    }

    /// True once the connection has ended.
    pub fn is_ended(&self) -> bool {
        *self.shared.ended.borrow()
    }

    fn next_id(&self) -> u64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    async fn ask<A: Serialize + ?Sized>(
        &self,
        name: &str,
        arguments: &A,
        fds: Vec<OwnedFd>,
        patience: Duration,
    ) -> Result<Vec<u8>> {
        let id = self.next_id();
        let bytes = encode(name, arguments, &wire_id(id))?;
        self.send(id, name, bytes, fds, patience).await
    }

    async fn send(
        &self,
        id: u64,
        name: &str,
        mut bytes: Vec<u8>,
        fds: Vec<OwnedFd>,
        patience: Duration,
    ) -> Result<Vec<u8>> {
        bytes.push(b'\n');
        let receiver = self.enter(id, name)?;
        // Forgets the waiter also when the caller goes away while it waits.
        let _entry = Entry { waiting: &self.shared.waiting, id };
        if self.shared.frames.try_send(Frame { bytes, fds }).is_err() {
            self.shared.waiting.lock().by_id.remove(&id);
            return Err(self.shared.waiting.lock().ended.clone().unwrap_or(Error::Busy));
        }
        let answered = tokio::select! {
            biased;
            answered = timeout(patience, receiver) => answered,
            () = self.stopped() => return Err(Error::Stopped { command: name.into() }),
        };
        match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => Err(Error::Timeout { command: name.into(), after: patience }),
        }
    }

    fn enter(&self, id: u64, name: &str) -> Result<oneshot::Receiver<Result<Vec<u8>>>> {
        let mut waiting = self.shared.waiting.lock();
        if let Some(why) = &waiting.ended {
            return Err(why.clone());
        }
        if waiting.by_id.len() + waiting.overdue.len() >= MAX_IN_FLIGHT {
            return Err(Error::Busy);
        }
        let (answer, receiver) = oneshot::channel();
        waiting.by_id.insert(id, Waiter { command: name.into(), since: Instant::now(), answer });
        Ok(receiver)
    }
}

struct Entry<'a> {
    waiting: &'a Mutex<Waiting>,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock();
        if waiting.by_id.remove(&self.id).is_some() {
            waiting.overdue.insert(self.id);
        }
    }
}

/// Ids look as libvirt's: its users see them in answers of passed commands.
fn wire_id(id: u64) -> String {
    format!("libvirt-{id}")
}

fn encode<A: Serialize + ?Sized>(name: &str, arguments: &A, id: &str) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Wire<'a> {
        execute: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        arguments: Option<Value>,
        id: &'a str,
    }
    let bad = |e: serde_json::Error| Error::BadCommand(e.to_string());
    let arguments = match serde_json::to_value(arguments).map_err(bad)? {
        Value::Null => None,
        Value::Object(map) if map.is_empty() => None,
        value => Some(value),
    };
    serde_json::to_vec(&Wire { execute: name, arguments, id }).map_err(bad)
}

/// The envelope of an answer; the payload stays text until the caller's type reads it.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
    #[serde(default, borrow, rename = "return")]
    value: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Refusal>,
    #[serde(default, borrow)]
    event: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    class: String,
    #[serde(default)]
    desc: String,
}

fn answer<T: serde::de::DeserializeOwned>(command: &str, line: &[u8]) -> Result<T> {
    let bad = |what: String| Error::Answer { command: command.into(), what };
    let envelope: Envelope = serde_json::from_slice(line).map_err(|e| bad(e.to_string()))?;
    if let Some(refusal) = envelope.error {
        let mut text = refusal.desc;
        if text.len() > MAX_TEXT {
            let end = (0..=MAX_TEXT).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            text.truncate(end);
        }
        return Err(Error::Refused { command: command.into(), class: refusal.class, text });
    }
    let value = envelope.value.ok_or_else(|| bad("neither return nor error".into()))?;
    serde_json::from_str(value.get()).map_err(|e| bad(e.to_string()))
}

async fn greeting(lines: &mut Lines) -> Result<Version> {
    #[derive(Deserialize)]
    struct Hello {
        #[serde(rename = "QMP")]
        qmp: Qmp,
    }
    #[derive(Deserialize)]
    struct Qmp {
        version: Full,
    }
    #[derive(Deserialize)]
    struct Full {
        qemu: Numbers,
    }
    #[derive(Deserialize)]
    struct Numbers {
        major: u32,
        minor: u32,
        micro: u32,
    }
    let line = lines.next().await.map_err(end_reason)?;
    let hello: Hello =
        serde_json::from_slice(&line).map_err(|e| Error::Protocol(format!("bad greeting: {e}")))?;
    let v = hello.qmp.version.qemu;
    Ok((v.major, v.minor, v.micro))
}

fn end_reason(ended: Ended) -> Error {
    match ended {
        Ended::Eof => Error::Closed,
        Ended::TooLong => Error::Protocol(format!("a line longer than {MAX_LINE} bytes")),
        // A reset is what a killed QEMU with unread input looks like.
        Ended::Io(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Error::Closed,
        Ended::Io(e) => socket("read from the monitor", &e),
    }
}

fn socket(what: &'static str, e: &std::io::Error) -> Error {
    Error::Socket { what, text: virt_error::os_text(e) }
}

/// Marks the connection as ended and fails every waiter, whichever task sees the end first.
fn finish(waiting: &Mutex<Waiting>, end: &watch::Sender<bool>, why: Error) {
    let waiters: Vec<Waiter> = {
        let mut waiting = waiting.lock();
        waiting.ended.get_or_insert_with(|| why.clone());
        waiting.by_id.drain().map(|(_, w)| w).collect()
    };
    for waiter in waiters {
        // The caller may have left; nobody else wants the answer.
        let _ = waiter.answer.send(Err(why.clone()));
    }
    end.send_replace(true);
}

async fn read_loop(
    mut lines: Lines,
    sink: Sink,
    waiting: Arc<Mutex<Waiting>>,
    end: Arc<watch::Sender<bool>>,
) {
    let why = loop {
        let line = match lines.next().await {
            Ok(line) => line,
            Err(e) => break end_reason(e),
        };
        if line.is_empty() {
            continue;
        }
        if let Err(why) = dispatch(line, &sink, &waiting) {
            break why;
        }
    };
    if !matches!(why, Error::Closed) {
        tracing::warn!(error = %why, "monitor connection given up");
    }
    finish(&waiting, &end, why);
}

fn dispatch(line: Vec<u8>, sink: &Sink, waiting: &Mutex<Waiting>) -> Result<()> {
    let envelope: Envelope =
        serde_json::from_slice(&line).map_err(|e| Error::Protocol(format!("not an answer: {e}")))?;
    if envelope.event.is_some() {
        if line.len() > MAX_EVENT {
            sink.lose();
            return Ok(());
        }
        let event: WireEvent =
            serde_json::from_slice(&line).map_err(|e| Error::Protocol(format!("bad event: {e}")))?;
        sink.push(event.into());
        return Ok(());
    }
    let Some(id) = envelope.id.and_then(|id| our_id(id.get())) else {
        let text = envelope.error.map_or_else(|| "an answer without id".into(), |e| e.desc);
        return Err(Error::Protocol(text));
    };
    // No waiter: its caller gave up. A late answer is no fault.
    let waiter = {
        let mut waiting = waiting.lock();
        waiting.overdue = waiting.overdue.split_off(&(id + 1));
        waiting.by_id.remove(&id)
    };
    if let Some(waiter) = waiter {
        let _ = waiter.answer.send(Ok(line));
    }
    Ok(())
}

fn our_id(raw: &str) -> Option<u64> {
    raw.strip_prefix("\"libvirt-")?.strip_suffix('"')?.parse().ok()
}

async fn write_loop(
    half: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Frame>,
    waiting: Arc<Mutex<Waiting>>,
    end: Arc<watch::Sender<bool>>,
) {
    while let Some(frame) = queue.recv().await {
        let stream: &UnixStream = half.as_ref();
        if let Err(e) = lines::write(stream, &frame.bytes, &frame.fds).await {
            let why = match e.kind() {
                std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => Error::Closed,
                _ => socket("write to the monitor", &e),
            };
            finish(&waiting, &end, why);
            return;
        }
    }
}

#[cfg(test)]
impl Client {
    /// How many commands wait.
    pub(super) fn shared_waiting(&self) -> usize {
        self.shared.waiting.lock().by_id.len()
    }
}

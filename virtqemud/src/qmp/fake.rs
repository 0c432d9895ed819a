//! An in-process QEMU for tests: greets, then answers each line by a script.

use std::os::fd::OwnedFd;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::lines::Lines;

/// What the fake does on a command.
pub enum Act {
    /// Answers `return`.
    Return(Value),
    /// Answers an error of class GenericError.
    Fail(&'static str),
    /// Sends an event, then goes on with the next act.
    Event(Value),
    /// Sends raw bytes.
    Bytes(Vec<u8>),
    /// Says nothing.
    Hang,
    /// Closes the connection.
    Close,
}

pub const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "fake"}, "capabilities": ["oob"], "new-field": 1}}"#;

/// Starts a fake that calls `script` with each command's name and arguments, and returns the client's end.
/// `qmp_capabilities` is answered by itself.
pub fn start(script: impl FnMut(&str, &Value) -> Vec<Act> + Send + 'static) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().expect("socket pair");
    tokio::spawn(serve(theirs, script));
    ours
}

async fn serve(stream: UnixStream, mut script: impl FnMut(&str, &Value) -> Vec<Act>) {
    let (read, mut write) = stream.into_split();
    let mut lines = Lines::new(read, 1 << 20);
    if write.write_all(format!("{GREETING}\r\n").as_bytes()).await.is_err() {
        return;
    }
    while let Ok(line) = lines.next().await {
        let command: Value = serde_json::from_slice(&line).expect("a command is JSON");
        let name = command["execute"].as_str().expect("a command has a name").to_string();
        let acts = match name.as_str() {
            "qmp_capabilities" => vec![Act::Return(json!({}))],
            _ => script(&name, &command["arguments"]),
        };
        for act in acts {
            let bytes = match act {
                Act::Return(v) => format!("{}\r\n", json!({"return": v, "id": command["id"]})).into_bytes(),
                Act::Fail(text) => {
                    let error = json!({"class": "GenericError", "desc": text});
                    format!("{}\r\n", json!({"id": command["id"], "error": error})).into_bytes()
                }
                Act::Event(v) => format!("{v}\r\n").into_bytes(),
                Act::Bytes(b) => b,
                Act::Hang => continue,
                Act::Close => return,
            };
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }
}

/// A descriptor to send along: the read end of a pipe.
pub fn descriptor() -> OwnedFd {
    let (read, _write) = rustix::pipe::pipe().expect("pipe");
    read
}

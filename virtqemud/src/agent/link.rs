//! One connection to an agent, for one command.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::timeout;
use virt_error::{Domain, Error, Result};

use super::unresponsive;
use crate::qmp::lines::{Lines, write};

/// Longest answer, in bytes; a file read by the agent is the largest.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// A byte that no JSON text holds: the agent's parser starts anew at it.
const SENTINEL: u8 = 0xff;

/// A synchronised connection.
pub struct Link {
    lines: Lines,
    write: OwnedWriteHalf,
}

impl Link {
    /// Connects and makes sure that the next answer belongs to the next command.
    pub async fn open(path: &str, limit: Duration) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|e| unresponsive("QEMU guest agent is not connected").with_source(e))?;
        let (read, write) = stream.into_split();
        let mut link = Self { lines: Lines::new(read, MAX_ANSWER), write };
        let silent = || unresponsive("Guest agent not available for now");
        timeout(limit, link.synchronise()).await.map_err(|_| silent())??;
        Ok(link)
    }

    async fn synchronise(&mut self) -> Result<()> {
        let mut bytes = [0; 4];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::system(Domain::Qemu, "cannot make a random number", e.into()))?;
        let id = u32::from_le_bytes(bytes) & 0x7fff_ffff;
        let ask = json!({"execute": "guest-sync-delimited", "arguments": {"id": id}});
        let mut line = vec![SENTINEL];
        line.extend(ask.to_string().into_bytes());
        self.write_line(line).await?;
        loop {
            let line = self.next_line().await?;
            // What is left of earlier answers stands before the sentinel.
            let fresh = line.rsplit(|b| *b == SENTINEL).next().unwrap_or_default();
            let answer: Option<Value> = serde_json::from_slice(fresh).ok();
            if answer.and_then(|a| a.get("return")?.as_u64()) == Some(id.into()) {
                return Ok(());
            }
        }
    }

    /// Sends a command.
    pub async fn send(&mut self, object: &Value) -> Result<()> {
        self.write_line(object.to_string().into_bytes()).await
    }

    /// The next answer, within `limit`.
    pub async fn receive(&mut self, limit: Duration, command: &str) -> Result<Value> {
        let line = timeout(limit, self.next_line()).await.map_err(|_| {
            unresponsive(&format!(
                "guest agent didn't respond to '{command}' within '{}' seconds",
                limit.as_secs()
            ))
        })??;
        serde_json::from_slice(&line)
            .map_err(|e| Error::internal(Domain::Qemu, "the guest agent's answer is no JSON").with_source(e))
    }

    async fn write_line(&mut self, mut line: Vec<u8>) -> Result<()> {
        line.push(b'\n');
        write(self.write.as_ref(), &line, &[])
            .await
            .map_err(|e| unresponsive("Guest agent disappeared while executing command").with_source(e))
    }

    async fn next_line(&mut self) -> Result<Vec<u8>> {
        loop {
            let line = self
                .lines
                .next()
                .await
                .map_err(|_| unresponsive("Guest agent disappeared while executing command"))?;
            if !line.is_empty() {
                return Ok(line);
            }
        }
    }
}

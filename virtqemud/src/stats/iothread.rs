//! How a guest's I/O threads poll.

use serde_json::Value as Json;

use super::{Rows, ask};
use crate::config::params::{Param, Value};
use crate::guest::Published;
use crate::qmp::Client;

/// The group of rows; nothing of a guest that does not run.
pub(super) async fn rows(p: &Published, monitor: Option<&Client>) -> Vec<Param> {
    let Some(monitor) = monitor else { return Vec::new() };
    let some = p.document().is_some_and(|d| !crate::config::iothreads::ids(d).is_empty());
    if !some {
        return Vec::new();
    }
    read(&ask(monitor, "query-iothreads", Json::Null).await)
}

fn read(answer: &Json) -> Vec<Param> {
    let mut found: Vec<(u32, &Json)> = answer
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|t| Some((t["id"].as_str()?.strip_prefix("iothread")?.parse().ok()?, t)))
        .collect();
    found.sort_by_key(|(id, _)| *id);
    let mut rows = Rows::default();
    if found.is_empty() {
        return rows.0;
    }
    rows.count("iothread.count", found.len());
    for (id, thread) in found {
        let figure = |key: &str| thread[key].as_u64().unwrap_or(0);
        let short = |key: &str| Value::Uint(u32::try_from(figure(key)).unwrap_or(u32::MAX));
        rows.number(format!("iothread.{id}.poll-max-ns"), figure("poll-max-ns"));
        rows.put(format!("iothread.{id}.poll-grow"), short("poll-grow"));
        rows.put(format!("iothread.{id}.poll-shrink"), short("poll-shrink"));
    }
    rows.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn threads_are_told_by_number() {
        let answer = json!([
            {"id": "iothread2", "poll-max-ns": 5, "poll-grow": 1, "poll-shrink": 2}, {"id": "mine"}, {"id": "iothread1"}
        ]);
        let told: Vec<_> = read(&answer).into_iter().map(|p| (p.name, p.value)).collect();
        assert_eq!(told[0], ("iothread.count".into(), Value::Uint(2)));
        assert_eq!(told[1], ("iothread.1.poll-max-ns".into(), Value::Ullong(0)));
        assert_eq!(told[5], ("iothread.2.poll-grow".into(), Value::Uint(1)));
        assert!(read(&Json::Null).is_empty());
    }
}

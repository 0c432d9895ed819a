//! From what `-chardev` says to the arguments of `chardev-add`: QEMU takes the two in different forms.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// The arguments of `chardev-add`. `sockets` names, by path, the descriptors of sockets that listen already and that QEMU
/// was handed. `None`: a kind that cannot be plugged in.
pub(in crate::live) fn arguments(option: &str, sockets: &HashMap<String, String>) -> Option<Value> {
    let (kind, options) = parse(option);
    let id = options.get("id")?;
    let text = |key: &str| options.get(key).cloned().unwrap_or_default();
    let switch = |key: &str| options.get(key).map(|v| v == "on");
    let (kind, mut data) = match kind.as_str() {
        "null" | "vc" | "pty" => (kind.as_str(), Map::new()),
        "file" => (
            "file",
            object([("out", Some(text("path").into())), ("append", switch("append").map(Value::from))]),
        ),
        "serial" | "parallel" | "pipe" => (kind.as_str(), object([("device", Some(text("path").into()))])),
        "udp" => {
            let inet = |host: &str, port: &str| json!({"type": "inet", "data": {"host": text(host), "port": text(port)}});
            let local = inet("localaddr", "localport");
            ("udp", object([("remote", Some(inet("host", "port"))), ("local", Some(local))]))
        }
        "socket" => ("socket", socket(&options, sockets)?),
        "spicevmc" => ("spicevmc", object([("type", Some(text("name").into()))])),
        "spiceport" => ("spiceport", object([("fqdn", Some(text("name").into()))])),
        "dbus" => ("dbus", object([("name", Some(text("name").into()))])),
        "qemu-vdagent" => {
            let both = ["clipboard", "mouse"].map(|key| (key, switch(key).map(Value::from)));
            ("qemu-vdagent", object(both))
        }
        _ => return None,
    };
    if let Some(file) = options.get("logfile") {
        data.insert("logfile".into(), file.clone().into());
    }
    if let Some(append) = switch("logappend") {
        data.insert("logappend".into(), append.into());
    }
    Some(json!({"id": id, "backend": {"type": kind, "data": data}}))
}

/// The id that an option of this form names.
pub(in crate::live) fn id(option: &str) -> Option<String> {
    parse(option).1.remove("id")
}

fn socket(
    options: &HashMap<String, String>,
    sockets: &HashMap<String, String>,
) -> Option<Map<String, Value>> {
    let switch = |key: &str| options.get(key).map(|v| Value::from(v == "on"));
    let number = |key: &str| options.get(key).and_then(|v| v.parse::<u64>().ok()).map(Value::from);
    let addr = match (options.get("path"), options.get("host")) {
        (Some(path), _) => match sockets.get(path) {
            Some(name) => json!({"type": "fd", "data": {"str": name}}),
            None => json!({"type": "unix", "data": {"path": path}}),
        },
        (None, Some(host)) => json!({"type": "inet", "data": {"host": host, "port": options.get("port")?}}),
        (None, None) => return None,
    };
    // QEMU's own rule: a server unless told otherwise.
    let server = options.get("server").is_some_and(|v| v == "on");
    Some(object([
        ("addr", Some(addr)),
        ("server", Some(server.into())),
        ("wait", switch("wait").filter(|_| server)),
        ("telnet", switch("telnet")),
        ("reconnect", number("reconnect")),
        ("reconnect-ms", number("reconnect-ms")),
        ("tls-creds", options.get("tls-creds").cloned().map(Value::from)),
    ]))
}

fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Map<String, Value> {
    members.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?))).collect()
}

/// The first word and the `key=value` pairs of an option; a doubled comma is one in a value.
fn parse(option: &str) -> (String, HashMap<String, String>) {
    let mut words = vec![String::new()];
    let mut letters = option.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, words.last_mut()) {
            (',', Some(word)) if letters.peek() == Some(&',') => {
                letters.next();
                word.push(',');
            }
            (',', _) => words.push(String::new()),
            (letter, Some(word)) => word.push(letter),
            (_, None) => {}
        }
    }
    let mut words = words.into_iter();
    let kind = words.next().unwrap_or_default();
    let pairs = words.filter_map(|w| w.split_once('=').map(|(k, v)| (k.to_string(), v.to_string())));
    (kind, pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_arguments() {
        let none = HashMap::new();
        let made = |option: &str| arguments(option, &none).map(|v| v["backend"].clone());
        assert_eq!(made("pty,id=charserial1"), Some(json!({"type": "pty", "data": {}})));
        assert_eq!(
            made("file,id=a,path=/x,,y,append=on,logfile=/l,logappend=off"),
            Some(
                json!({"type": "file", "data": {"out": "/x,y", "append": true, "logfile": "/l", "logappend": false}})
            )
        );
        assert_eq!(
            made("socket,id=a,host=h,port=1,reconnect-ms=2000"),
            Some(json!({"type": "socket", "data": {
                "addr": {"type": "inet", "data": {"host": "h", "port": "1"}}, "server": false, "reconnect-ms": 2000}}))
        );
        assert_eq!(
            made("socket,id=a,path=/p,server=on,wait=off"),
            Some(json!({"type": "socket", "data": {
                "addr": {"type": "unix", "data": {"path": "/p"}}, "server": true, "wait": false}}))
        );
        assert_eq!(made("stdio,id=a"), None, "the daemon's own output is nobody's port");
        assert_eq!(made("null"), None, "without a name");
        let handed = HashMap::from([("/p".to_string(), "fd-a".to_string())]);
        let made = arguments("socket,id=a,path=/p,server=on,wait=off", &handed);
        let made = made.expect("a socket");
        assert_eq!(made["backend"]["data"]["addr"], json!({"type": "fd", "data": {"str": "fd-a"}}));
        assert_eq!(id("pty,id=char,,a").as_deref(), Some("char,a"));
    }
}

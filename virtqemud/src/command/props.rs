//! One JSON argument of QEMU: `-device`, `-object`, `-blockdev`, `-netdev`, `-audiodev`.

use serde_json::{Map, Value};

/// An ordered JSON object, written without spaces as libvirt writes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Props(Map<String, Value>);

impl Props {
    /// An empty object.
    pub fn new() -> Self {
        Self::default()
    }

    /// `{"driver":"..."}`
    pub fn driver(name: &str) -> Self {
        Self::new().with("driver", name)
    }

    /// `{"qom-type":"...","id":"..."}`
    pub fn object(kind: &str, id: &str) -> Self {
        Self::new().with("qom-type", kind).with("id", id)
    }

    /// Adds a member at the end.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.put(key, value);
        self
    }

    /// Adds a member when there is a value.
    #[must_use]
    pub fn opt<V: Into<Value>>(mut self, key: &str, value: Option<V>) -> Self {
        if let Some(value) = value {
            self.put(key, value);
        }
        self
    }

    /// Adds a member when `on` is true.
    #[must_use]
    pub fn when(self, on: bool, key: &str, value: impl Into<Value>) -> Self {
        if on { self.with(key, value) } else { self }
    }

    /// Adds a member at the end.
    pub fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_string(), value.into());
    }

    /// Appends all members of another object.
    #[must_use]
    pub fn join(mut self, other: Props) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object as a JSON value.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

impl From<Props> for Value {
    fn from(props: Props) -> Self {
        props.into_value()
    }
}

impl std::fmt::Display for Props {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = serde_json::to_string(&self.0).map_err(|_| std::fmt::Error)?;
        f.write_str(&text)
    }
}

/// Doubles commas, QEMU's escape inside `key=value,key=value` arguments.
pub fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

/// A `key=value,key=value` argument.
#[derive(Clone, Debug, Default)]
pub struct Opts(String);

impl Opts {
    /// Starts with a bare word.
    pub fn new(first: &str) -> Self {
        Self(first.to_string())
    }

    /// Appends `key=value`, escaping the value.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.put(key, value);
        self
    }

    /// Appends `key=value` when there is a value.
    #[must_use]
    pub fn opt(self, key: &str, value: Option<impl std::fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Appends `key=on` or `key=off` when it is decided.
    #[must_use]
    pub fn switch(self, key: &str, value: Option<bool>) -> Self {
        self.opt(key, value.map(on_off))
    }

    /// Appends `key=value`.
    pub fn put(&mut self, key: &str, value: impl std::fmt::Display) {
        self.word(&format!("{key}={}", escape(&value.to_string())));
    }

    /// Appends a bare word.
    pub fn word(&mut self, text: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(text);
    }
}

impl std::fmt::Display for Opts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// `on` or `off`.
pub fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

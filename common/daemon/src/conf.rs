//! libvirt's `*.conf` files: `key = value` lines with integers, strings, lists of them and comments.
//!
//! ```text
//! # a comment
//! log_level = 3
//! user = "libvirt-qemu"
//! cgroup_controllers = [ "cpu", "devices" ]
//! note = """a text
//! over lines"""
//! ```
//!
//! Errors are worded as the reference's and name file and line. Later values of a key replace earlier ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use virt_error::{Code, Domain, Error, Result};
use winnow::combinator::{alt, opt, terminated};
use winnow::error::{ErrMode, ModalResult, ParserError};
use winnow::prelude::*;
use winnow::token::{literal, take_till, take_until, take_while};

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Int(i64),
    /// A text in quotes.
    Text(String),
    /// A list of values, in brackets.
    List(Vec<Value>),
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf {
    path: PathBuf,
    values: BTreeMap<String, Value>,
}

impl Conf {
    /// Reads a file; a missing one is empty, for every key has a default.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(path, &text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Self::parse(path, ""),
            Err(e) => Err(unreadable(&path, e)),
        }
    }

    /// Reads a file that must be there.
    pub fn load_existing(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let text = std::fs::read_to_string(&path).map_err(|e| unreadable(&path, e))?;
        Self::parse(path, &text)
    }

    /// Parses a text; `path` is for errors.
    pub fn parse(path: impl Into<PathBuf>, text: &str) -> Result<Self> {
        let path = path.into();
        let mut values = BTreeMap::new();
        let mut rest = text;
        loop {
            match entry(&mut rest) {
                Ok(Some((key, value))) => drop(values.insert(key.to_string(), value)),
                Ok(None) => return Ok(Self { path, values }),
                Err(error) => {
                    let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
                    return Err(describe(error, &path, line));
                }
            }
        }
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys it sets.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The value of a key as it stands.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// A whole number.
    pub fn int(&self, key: &str) -> Result<Option<i64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Int(n)) => Ok(Some(*n)),
            Some(_) => Err(self.wrong_type(key, "a signed integer")),
        }
    }

    /// A whole number that is not negative.
    pub fn uint(&self, key: &str) -> Result<Option<u64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Int(n)) if *n >= 0 => Ok(Some(n.unsigned_abs())),
            Some(_) => Err(self.wrong_type(key, "an unsigned integer")),
        }
    }

    /// 0 or 1.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.uint(key)? {
            None => Ok(None),
            Some(0) => Ok(Some(false)),
            Some(1) => Ok(Some(true)),
            Some(_) => Err(self.wrong_type(key, "a boolean, 0 or 1,")),
        }
    }

    /// A text.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong_type(key, "a string")),
        }
    }

    /// A list of texts; a single text counts as a list of one.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let wrong = || self.wrong_type(key, "a string list");
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(vec![text])),
            Some(Value::List(items)) => {
                let texts =
                    items.iter().map(|i| if let Value::Text(t) = i { Ok(t.as_str()) } else { Err(wrong()) });
                texts.collect::<Result<_>>().map(Some)
            }
            Some(Value::Int(_)) => Err(wrong()),
        }
    }

    fn wrong_type(&self, key: &str, wanted: &str) -> Error {
        let text = format!("{}: expected {wanted} for '{key}' parameter", self.path.display());
        Error::internal(Domain::Conf, text)
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::system(Domain::Conf, format!("Failed to open file '{}'", path.display()), error)
}

/// Why a line is wrong, in the reference's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wrong(&'static str);

const OVERFLOW: Wrong = Wrong("numeric overflow in conf value");

impl<'i> ParserError<&'i str> for Wrong {
    type Inner = Self;

    fn from_input(_: &&'i str) -> Self {
        Self("expecting a value")
    }

    fn into_inner(self) -> winnow::Result<Self::Inner, Self> {
        Ok(self)
    }
}

type Parsed<T> = ModalResult<T, Wrong>;

fn wrong<T>(text: &'static str) -> Parsed<T> {
    Err(ErrMode::Cut(Wrong(text)))
}

fn describe(error: ErrMode<Wrong>, path: &Path, line: usize) -> Error {
    let wrong = match error {
        ErrMode::Cut(wrong) | ErrMode::Backtrack(wrong) => wrong,
        ErrMode::Incomplete(_) => Wrong("unexpected end"),
    };
    let code = if wrong == OVERFLOW { Code::Overflow } else { Code::ConfSyntax };
    Error::new(code, Domain::Conf, format!("{}:{line}: {}", path.display(), wrong.0))
}

/// The next `key = value`, or `None` at the end.
fn entry<'i>(input: &mut &'i str) -> Parsed<Option<(&'i str, Value)>> {
    skip_lines(input)?;
    if input.is_empty() {
        return Ok(None);
    }
    if !input.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return wrong("expecting a name");
    }
    let key = take_while(1.., |c: char| c.is_ascii_alphanumeric() || c == '_').parse_next(input)?;
    blanks(input)?;
    if opt(literal("=")).parse_next(input)?.is_none() {
        return wrong("expecting an assignment");
    }
    blanks(input)?;
    let value = value(input)?;
    blanks(input)?;
    match input.chars().next() {
        None | Some('\n' | '\r' | ';' | '#') => {
            opt(literal(";")).parse_next(input)?;
            Ok(Some((key, value)))
        }
        Some(_) => wrong("expecting a separator"),
    }
}

fn value(input: &mut &str) -> Parsed<Value> {
    match input.chars().next() {
        Some('[') => list(input).map(Value::List),
        Some('"' | '\'') => text(input).map(Value::Text),
        Some('-' | '0'..='9') => int(input).map(Value::Int),
        _ => wrong("expecting a value"),
    }
}

fn int(input: &mut &str) -> Parsed<i64> {
    let digits = (opt('-'), take_while(1.., '0'..='9')).take().parse_next(input)?;
    digits.parse().or_else(|_| wrong(OVERFLOW.0))
}

fn text(input: &mut &str) -> Parsed<String> {
    let open = *input;
    let closed = alt((
        (literal("\"\"\""), terminated(take_until(0.., "\"\"\""), literal("\"\"\""))),
        (literal("\""), terminated(take_till(0.., ['"', '\n']), literal("\""))),
        (literal("'"), terminated(take_till(0.., ['\'', '\n']), literal("'"))),
    ));
    let parsed: Parsed<_> = { closed }.parse_next(input);
    match parsed {
        Ok((_, text)) => Ok(text.to_string()),
        Err(_) => {
            *input = open;
            wrong("unterminated string")
        }
    }
}

fn list(input: &mut &str) -> Parsed<Vec<Value>> {
    literal("[").parse_next(input)?;
    let mut items = Vec::new();
    loop {
        skip_lines(input)?;
        if opt(literal("]")).parse_next(input)?.is_some() {
            return Ok(items);
        }
        if input.is_empty() {
            return wrong("list is not closed with ]");
        }
        if input.starts_with('[') {
            // No key of libvirt nests lists, and a bound on depth is needed.
            return wrong("lists not allowed in lists");
        }
        items.push(value(input)?);
        skip_lines(input)?;
        if opt(literal(",")).parse_next(input)?.is_some() || input.starts_with(']') {
            continue;
        }
        return if input.is_empty() {
            wrong("list is not closed with ]")
        } else {
            wrong("expecting a separator in list")
        };
    }
}

fn blanks(input: &mut &str) -> Parsed<()> {
    take_while(0.., [' ', '\t']).void().parse_next(input)
}

/// Skips empty space, line ends and comments.
fn skip_lines(input: &mut &str) -> Parsed<()> {
    loop {
        take_while(0.., [' ', '\t', '\n', '\r']).void().parse_next(input)?;
        if !input.starts_with('#') {
            return Ok(());
        }
        take_till(0.., '\n').void().parse_next(input)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        Conf::parse("x.conf", text).unwrap_err().message()
    }

    #[test]
    fn reads_what_libvirt_writes() {
        let text = "# c\na = 1 # tail\n\nb=\"x#y\"\r\nc = [ \"p\",\n # in between\n \"q\", ]\nd = 'z'\n\
                    e = \"\"\"one\ntwo\"\"\"\nn = -5\nempty = []\na = 2";
        let c = Conf::parse("x.conf", text).unwrap();
        assert_eq!(c.uint("a").unwrap(), Some(2));
        assert_eq!(c.string("b").unwrap(), Some("x#y"));
        assert_eq!(c.strings("c").unwrap(), Some(vec!["p", "q"]));
        assert_eq!(c.strings("d").unwrap(), Some(vec!["z"]));
        assert_eq!(c.string("e").unwrap(), Some("one\ntwo"));
        assert_eq!(c.int("n").unwrap(), Some(-5));
        assert_eq!(c.strings("empty").unwrap(), Some(vec![]));
        assert_eq!((c.bool("nosuch").unwrap(), c.keys().count()), (None, 7));
    }

    #[test]
    fn errors_are_the_references() {
        let syntax = |s: &str| format!("configuration file syntax error: x.conf:{s}");
        assert_eq!(error("a"), syntax("1: expecting an assignment"));
        assert_eq!(error("a ="), syntax("1: expecting a value"));
        assert_eq!(error("a = \"x"), syntax("1: unterminated string"));
        assert_eq!(error("a = [ \"b\"\n"), syntax("2: list is not closed with ]"));
        assert_eq!(error("= 3"), syntax("1: expecting a name"));
        assert_eq!(error("a = 3x"), syntax("1: expecting a separator"));
        assert_eq!(error("a = x"), syntax("1: expecting a value"));
        assert_eq!(error("a = 1\nb = [ 1, 2 ]\nc = \"x\" junk"), syntax("3: expecting a separator"));
        assert_eq!(error("a = [\"x\" \"y\"]"), syntax("1: expecting a separator in list"));
        assert_eq!(error("5a = 1"), syntax("1: expecting a name"));
        assert_eq!(
            error("a = 99999999999999999999"),
            "numerical overflow: x.conf:1: numeric overflow in conf value"
        );
        let c = Conf::parse("x.conf", "log_level = \"x\"").unwrap();
        assert_eq!(
            c.uint("log_level").unwrap_err().message(),
            "internal error: x.conf: expected an unsigned integer for 'log_level' parameter"
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "[a-z_=\"'\\[\\], 0-9#;\n\r\t-]{0,60}|\\PC{0,40}") {
            let _ = Conf::parse("x.conf", &text);
        }

        #[test]
        fn values_come_back(n: i64, s in "[^\"\n\u{0}]{0,20}", l in prop::collection::vec("[a-z]{0,5}", 0..4)) {
            let quoted: Vec<_> = l.iter().map(|i| format!("\"{i}\"")).collect();
            let text = format!("n={n}\n s = \"{s}\"\nl=[{}]", quoted.join(",\n"));
            let c = Conf::parse("x.conf", &text).unwrap();
            prop_assert_eq!(c.int("n").unwrap(), Some(n));
            prop_assert_eq!(c.string("s").unwrap(), Some(s.as_str()));
            prop_assert_eq!(c.strings("l").unwrap().unwrap(), l);
        }
    }
}

//! Variables: how rules name them, and the values that references and cards give them.

use std::collections::BTreeMap;
use std::fmt;

use virt_xml::rt_error::Result;
use virt_xml::{El, Shape, Writer, Xml};

/// The highest number of an iterator.
const ITERATORS: u32 = 1000;

/// Which of a variable's values a rule means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Each in turn; variables with the same iterator advance together.
    Iterator(u32),
    /// The one at this place.
    Element(u32),
}

/// A variable as a rule names it: `$IP`, `$IP[@1]`, `$IP[2]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VarRef {
    /// Its name.
    pub name: String,
    /// Which of its values.
    pub access: Access,
}

fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl VarRef {
    /// Reads a reference, `$` and all.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('$')?;
        let end = rest.find(|c| !in_name(c)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let rest = rest.trim_ascii();
        let access = if rest.is_empty() {
            Access::Iterator(0)
        } else {
            let inside = rest.strip_prefix('[')?.split_once(']')?.0.trim_ascii();
            let (number, iterator) = match inside.strip_prefix('@') {
                Some(number) => (number, true),
                None => (inside, false),
            };
            if !number.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
                return None;
            }
            let number = virt_xml::parse_int(number, 10)?;
            match iterator {
                true => Access::Iterator(u32::try_from(number).ok().filter(|n| *n <= ITERATORS)?),
                // The reference wraps a negative place around; no list is that long.
                false if number < 0 => Access::Element(u32::MAX),
                false => Access::Element(u32::try_from(number).ok()?),
            }
        };
        Some(Self { name: name.into(), access })
    }
}

impl fmt::Display for VarRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.name)?;
        match self.access {
            Access::Iterator(0) => Ok(()),
            Access::Iterator(n) => write!(f, "[@{n}]"),
            Access::Element(n) => write!(f, "[{n}]"),
        }
    }
}

/// Values by variable, in the order of the names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(pub BTreeMap<String, Vec<String>>);

impl Parameters {
    /// The values of a variable.
    pub fn get(&self, name: &str) -> Option<&[String]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Gives a variable these values.
    pub fn set(&mut self, name: &str, values: Vec<String>) {
        self.0.insert(name.into(), values);
    }

    /// Adds a value. What cannot be one (blanks, quotes, odd letters) is passed over, as the reference does.
    pub fn add(&mut self, name: &str, value: &str) {
        let good = |c: char| in_name(c) || ".:+-,/@".contains(c);
        if !name.is_empty() && name.chars().all(in_name) && !value.is_empty() && value.chars().all(good) {
            self.0.entry(name.into()).or_default().push(value.into());
        }
    }

    /// These, and of the other those that are not set here.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        let mut all = other.0.clone();
        all.extend(self.0.clone());
        Self(all)
    }
}

/// `<filterref>`: another filter, with values for its variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterRef {
    /// The other filter's name.
    pub filter: String,
    /// Values.
    pub parameters: Parameters,
}

impl Xml for FilterRef {
    fn read(e: El<'_>) -> Result<Self> {
        let filter = e.attr("filter").ok_or_else(|| e.missing_attr("filter"))?.to_string();
        let mut parameters = Parameters::default();
        for p in e.children_named("parameter") {
            parameters.add(p.attr("name").unwrap_or_default(), p.attr("value").unwrap_or_default());
        }
        Ok(Self { filter, parameters })
    }
    fn write_attrs(&self, w: &mut Writer) {
        w.attr("filter", &self.filter);
    }
    fn write_children(&self, w: &mut Writer) {
        for (name, values) in &self.parameters.0 {
            for value in values {
                w.start("parameter");
                w.attr("name", name);
                w.attr("value", value);
                w.end();
            }
        }
    }
    fn shape(s: &mut Shape) {
        s.attr("", "filter");
        s.attr("parameter", "name");
        s.attr("parameter", "value");
    }
}

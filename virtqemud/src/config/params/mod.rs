//! Families of named parameters: what they are called, what they hold in a document, how they are set.

pub mod blkio;
pub mod block;
pub mod interface;
pub mod iothread;
pub mod memory;
pub mod numa;
pub mod perf;
pub mod scheduler;

use virt_error::{Code, Domain, Error, Result};

/// One named value.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// libvirt's name.
    pub name: String,
    /// The value with its type.
    pub value: Value,
}

/// Types as the wire has them.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    Int(i32),
    Uint(u32),
    Llong(i64),
    Ullong(u64),
    Double(f64),
    Boolean(bool),
    String(String),
}

/// A type without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Type {
    Int,
    Uint,
    Llong,
    Ullong,
    Double,
    Boolean,
    String,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Llong => "llong",
            Self::Ullong => "ullong",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::String => "string",
        }
    }
}

impl Value {
    /// The type.
    pub fn kind(&self) -> Type {
        match self {
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Llong(_) => Type::Llong,
            Self::Ullong(_) => Type::Ullong,
            Self::Double(_) => Type::Double,
            Self::Boolean(_) => Type::Boolean,
            Self::String(_) => Type::String,
        }
    }

    /// The number of an unsigned value; 0 for others. Types are checked before ([`check`]).
    fn unsigned(&self) -> u64 {
        match self {
            Self::Ullong(v) => *v,
            Self::Uint(v) => u64::from(*v),
            Self::Int(_) | Self::Llong(_) | Self::Double(_) | Self::Boolean(_) | Self::String(_) => 0,
        }
    }

    /// The number of an unsigned 32-bit value; 0 for others.
    fn short(&self) -> u32 {
        if let Self::Uint(v) = self { *v } else { 0 }
    }

    /// The number of a signed value; 0 for others.
    fn signed(&self) -> i64 {
        match self {
            Self::Llong(v) => *v,
            Self::Int(v) => i64::from(*v),
            Self::Uint(_) | Self::Ullong(_) | Self::Double(_) | Self::Boolean(_) | Self::String(_) => 0,
        }
    }

    /// The text of a string; empty for others.
    fn text(&self) -> &str {
        if let Self::String(v) = self { v } else { "" }
    }
}

/// Shorthand for a getter's row.
fn row(name: &str, value: Value) -> Param {
    Param { name: name.to_string(), value }
}

/// Checks names, types and repeats before anything is changed.
///
/// # Errors
/// Code 74 for a name that is not among `known`, code 8 for a wrong type or a name given twice.
pub fn check(params: &[Param], known: &[(&str, Type)]) -> Result<()> {
    let invalid = |text: String| Err(Error::new(Code::InvalidArg, Domain::None, text));
    for (at, param) in params.iter().enumerate() {
        let name = &param.name;
        let Some((_, wanted)) = known.iter().find(|(n, _)| n == name) else {
            let text = format!("parameter '{name}' not supported");
            return Err(Error::new(Code::ArgumentUnsupported, Domain::None, text));
        };
        let given = param.value.kind();
        if given != *wanted {
            return invalid(format!(
                "invalid type '{}' for parameter '{name}', expected '{}'",
                given.name(),
                wanted.name()
            ));
        }
        if params[..at].iter().any(|p| p.name == *name) {
            return invalid(format!("parameter '{name}' occurs multiple times"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_lists_are_refused_whole() {
        let known = [("a", Type::Uint), ("b", Type::String)];
        let text = |params: &[Param]| check(params, &known).unwrap_err().message();
        assert_eq!(text(&[row("c", Value::Uint(1))]), "argument unsupported: parameter 'c' not supported");
        let want = "invalid argument: invalid type 'int' for parameter 'a', expected 'uint'";
        assert_eq!(text(&[row("a", Value::Int(1))]), want);
        let twice = [row("a", Value::Uint(1)), row("a", Value::Uint(1))];
        assert_eq!(text(&twice), "invalid argument: parameter 'a' occurs multiple times");
        assert!(check(&[row("b", Value::String("x".into()))], &known).is_ok());
    }
}

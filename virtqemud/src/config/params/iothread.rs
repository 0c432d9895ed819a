//! How an I/O thread polls (nanoseconds and factors), and how many helpers it has.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::vcpu::Iothread;

use super::{Param, Type, Value, check, row};
use crate::config::iothreads;

/// Names in libvirt's order.
pub const NAMES: [(&str, Type); 5] = [
    ("poll_max_ns", Type::Ullong),
    ("poll_grow", Type::Uint),
    ("poll_shrink", Type::Uint),
    ("thread_pool_min", Type::Int),
    ("thread_pool_max", Type::Int),
];

/// The thread that a number in text stands for.
///
/// # Errors
/// Code 8 when there is none.
pub fn find<'a>(domain: &'a mut Domain, number: &str) -> Result<&'a mut Iothread> {
    iothreads::spell_out(domain);
    let id: Option<u32> = number.parse().ok();
    let found = domain.iothreadids.iothreads.iter_mut().find(|t| Some(t.id) == id);
    found.ok_or_else(|| {
        let text = format!("cannot find IOThread '{number}' in iothreadids");
        Error::new(Code::InvalidArg, From::Qemu, text)
    })
}

/// What is set of a thread.
pub fn get(thread: &Iothread) -> Vec<Param> {
    let short = |v: u64| u32::try_from(v).unwrap_or(u32::MAX);
    let rows = [
        thread.poll.max.map(Value::Ullong),
        thread.poll.grow.map(|v| Value::Uint(short(v))),
        thread.poll.shrink.map(|v| Value::Uint(short(v))),
        thread.thread_pool_min.map(Value::Int),
        thread.thread_pool_max.map(Value::Int),
    ];
    NAMES.iter().zip(rows).filter_map(|((name, _), value)| Some(row(name, value?))).collect()
}

/// Sets values of a thread.
///
/// # Errors
/// As [`check`]; code 55 for a pool whose least is above its most.
pub fn set(thread: &mut Iothread, params: &[Param]) -> Result<()> {
    check(params, &NAMES)?;
    let mut new = thread.clone();
    for Param { name, value } in params {
        let pool = || i32::try_from(value.signed()).unwrap_or(-1);
        match name.as_str() {
            "poll_max_ns" => new.poll.max = Some(value.unsigned()),
            "poll_grow" => new.poll.grow = Some(value.unsigned()),
            "poll_shrink" => new.poll.shrink = Some(value.unsigned()),
            "thread_pool_min" => new.thread_pool_min = Some(pool()),
            "thread_pool_max" => new.thread_pool_max = Some(pool()),
            _ => {}
        }
    }
    let refuse = |text: String| Err(Error::new(Code::OperationInvalid, From::Qemu, text));
    for (name, value) in [("thread_pool_min", new.thread_pool_min), ("thread_pool_max", new.thread_pool_max)]
    {
        if value.is_some_and(|v| v < -1) {
            return refuse(format!("{name} value must be non-negative"));
        }
    }
    if let (Some(least), Some(most)) = (new.thread_pool_min, new.thread_pool_max)
        && least > most
    {
        return refuse(format!("thread_pool_min ({least}) can't be greater than thread_pool_max ({most})"));
    }
    *thread = new;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_found_and_changed_as_a_whole() {
        let mut d = Domain { iothreads: Some(2), ..Domain::default() };
        let text = find(&mut d, "9").unwrap_err().message();
        assert_eq!(text, "invalid argument: cannot find IOThread '9' in iothreadids");
        assert!(find(&mut d, "").is_err() && find(&mut d, "-1").is_err());
        let thread = find(&mut d, "2").unwrap();
        let pool = |least, most| {
            [row("thread_pool_min", Value::Int(least)), row("thread_pool_max", Value::Int(most))]
        };
        set(thread, &pool(2, 4)).unwrap();
        let before = thread.clone();
        let text = set(thread, &pool(8, 4)).unwrap_err().message();
        assert!(text.ends_with("thread_pool_min (8) can't be greater than thread_pool_max (4)"), "{text}");
        assert!(set(thread, &[row("poll_max_ns", Value::Int(1))]).is_err(), "of another type");
        assert_eq!(*thread, before);
        set(thread, &[row("poll_max_ns", Value::Ullong(7))]).unwrap();
        assert_eq!(get(thread).len(), 3);
    }
}

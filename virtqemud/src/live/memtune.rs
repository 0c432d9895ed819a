//! Memory limits of a running guest.

use virt_error::{Code, Domain as From, Error, Result};
use virt_host::cgroup::Group;
use virt_model::Size;
use virt_model::domain::memory::MemTune;

use crate::config::params::{Param, memory};
use crate::guest::Work;
use crate::process::groups::write;

const HARD: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];
const SOFT: [&str; 2] = ["memory.soft_limit_in_bytes", "memory.high"];
/// Version 1 counts memory and swap together, version 2 swap alone.
const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
const SWAP: &str = "memory.swap.max";

/// What the document of a guest that is being started asks for.
///
/// # Errors
/// Code 67 when the host has no such controller, code 38 when the kernel refuses.
pub fn begin(group: &Group, tune: &MemTune) -> Result<()> {
    if tune.hard_limit.is_none() && tune.soft_limit.is_none() && tune.swap_hard_limit.is_none() {
        return Ok(());
    }
    if !group.has("memory") {
        let text = "Memory cgroup is not available on this host";
        return Err(Error::new(Code::ConfigUnsupported, From::Domain, text));
    }
    apply(group, &MemTune::default(), tune)
}

/// Changes limits of a running guest.
///
/// # Errors
/// As [`memory::set`]; code 38 when the kernel refuses.
pub fn set(work: &mut Work, params: &[Param]) -> Result<()> {
    let run = work.run()?;
    let mut wanted = run.live.clone();
    memory::set(&mut wanted, params)?;
    apply(&run.held.group, &run.live.memtune, &wanted.memtune)?;
    run.live.memtune = wanted.memtune;
    work.publish_live()
}

fn kib(limit: Option<Size>) -> Option<u64> {
    limit.map(|size| size.kib)
}

/// "-1" is version 1's, "max" version 2's word for no limit; both take bytes.
fn text(group: &Group, file: &str, limit: Option<u64>) -> String {
    let first = group.file("memory", &[file]).is_some();
    match limit {
        Some(kib) => kib.saturating_mul(1024).to_string(),
        None => if first { "-1" } else { "max" }.to_string(),
    }
}

fn apply(group: &Group, old: &MemTune, new: &MemTune) -> Result<()> {
    let hard = || {
        if kib(old.hard_limit) == kib(new.hard_limit) {
            return Ok(());
        }
        write(group, "memory", &HARD, &text(group, HARD[0], kib(new.hard_limit)))
    };
    let swap = || {
        let same = kib(old.swap_hard_limit) == kib(new.swap_hard_limit);
        if group.file("memory", &[WITH_SWAP]).is_some() || group.file("memory", &[SWAP]).is_none() {
            if same {
                return Ok(());
            }
            return write(group, "memory", &[WITH_SWAP], &text(group, WITH_SWAP, kib(new.swap_hard_limit)));
        }
        if same && (new.swap_hard_limit.is_none() || kib(old.hard_limit) == kib(new.hard_limit)) {
            return Ok(());
        }
        let above =
            kib(new.swap_hard_limit).map(|all| all.saturating_sub(kib(new.hard_limit).unwrap_or(all)));
        write(group, "memory", &[SWAP], &text(group, "", above))
    };
    // Memory with swap may never be below memory alone: it grows first and shrinks last.
    let grows = kib(new.swap_hard_limit).unwrap_or(u64::MAX) > kib(old.swap_hard_limit).unwrap_or(u64::MAX);
    if grows {
        swap()?;
        hard()?;
    } else {
        hard()?;
        swap()?;
    }
    if kib(old.soft_limit) == kib(new.soft_limit) {
        return Ok(());
    }
    write(group, "memory", &SOFT, &text(group, SOFT[0], kib(new.soft_limit)))
}

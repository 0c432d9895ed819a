//! From which host nodes a running guest's memory comes: by its control group alone.

use virt_error::Result;

use super::invalid_state;
use crate::config::params::{Param, numa};
use crate::guest::Work;
use crate::process::groups::write;

/// Changes the nodes of a running guest.
///
/// # Errors
/// As [`numa::check_live`] and [`numa::set`]; code 55 when the host has no such controller, code 38 when the kernel refuses.
pub fn set(work: &mut Work, params: &[Param]) -> Result<()> {
    let run = work.run()?;
    numa::check_live(&run.live, params)?;
    if !run.held.group.has("cpuset") {
        return Err(invalid_state("cgroup cpuset controller is not mounted"));
    }
    let mut wanted = run.live.clone();
    numa::set(&mut wanted, params)?;
    if let Some(nodes) = wanted.numatune.memory.as_ref().and_then(|m| m.nodeset.as_ref()) {
        write(&run.held.group, "cpuset", &["cpuset.mems"], &nodes.to_string())?;
    }
    run.live.numatune = wanted.numatune;
    work.publish_live()
}

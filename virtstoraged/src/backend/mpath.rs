//! The pool of all multipath devices of this host.

use std::path::Path;

use virt_error::{Domain, Result};
use virt_host::tool::Run;
use virt_model::storage::Pool;

use super::{Backend, Content, Cx, block, disk};
use crate::pool::Sizes;

/// `<pool type='mpath'>`.
pub struct Mpath;

/// The minor numbers in "mpatha\t(253:0)"; "(253, 0)" in older versions.
fn minors(text: &str) -> Vec<u32> {
    text.lines()
        .filter_map(|line| {
            let numbers = line.rsplit_once('(')?.1.strip_suffix(')')?;
            numbers.split([':', ',']).nth(1)?.trim().parse().ok()
        })
        .collect()
}

fn content(cx: &Cx<'_>, pool: &Pool) -> Result<Content> {
    // A kernel without device mapper has no such devices.
    if !std::fs::read_to_string("/proc/devices").unwrap_or_default().contains("device-mapper") {
        return Ok(Content::default());
    }
    let run = Run::new("dmsetup", Domain::Storage).args(["ls", "--target", "multipath"]).cancel(&cx.cancel);
    let mut volumes = Vec::new();
    for minor in minors(&cx.tools.run(&run)?.text()) {
        let name = format!("dm-{minor}");
        let device = format!("/dev/{name}");
        let Ok(size) = block::size(Path::new(&device)) else { continue };
        let path = block::stable(pool.path(), &device);
        volumes.push(block::told(&name, &path, &path, None, (size, size)));
    }
    Ok(Content { sizes: block::sum(&volumes), volumes, ..Content::default() })
}

impl Backend for Mpath {
    fn needs(&self) -> &'static [&'static str] {
        &["dmsetup"]
    }

    fn is_active(&self, _: &Cx<'_>, _: &Pool) -> Result<bool> {
        Ok(true)
    }

    fn refresh(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Content> {
        disk::settle(cx);
        content(cx, pool)
    }

    fn sizes(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Sizes> {
        Ok(content(cx, pool)?.sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::minors;

    #[test]
    fn devices_are_listed() {
        assert_eq!(minors("mpatha\t(253:0)\nodd (name\t(253, 12)\n"), [0, 12]);
        assert!(minors("No devices found\n").is_empty());
    }
}

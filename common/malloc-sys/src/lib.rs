//! What the C library keeps of freed memory, see mallopt(3) and malloc_trim(3).

use std::ffi::c_int;

use nix::libc;

/// Lets threads share `arenas` areas of memory. Each area keeps what was freed in it for itself: by default there are eight
/// for each processor. Call it before there are threads. False when the C library has no such limit.
pub fn limit_arenas(arenas: u8) -> bool {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number under the allocator's own lock.
    let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, c_int::from(arenas)) } == 1;
    #[cfg(not(target_env = "gnu"))]
    let set = arenas == 0;
    set
}

/// Gives whole free pages back to the kernel. It holds each area's lock for some milliseconds. False when there was nothing.
pub fn trim() -> bool {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only looks at what is free, under the allocator's own locks.
    let trimmed = unsafe { libc::malloc_trim(0) } == 1;
    #[cfg(not(target_env = "gnu"))]
    let trimmed = false;
    trimmed
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    /// Of this process, in KiB.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_default()
    }

    #[test]
    fn freed_memory_goes_back() {
        assert!(limit_arenas(2));
        // Small pieces come from the heap, and the last one keeps its end from shrinking.
        let mut pieces: Vec<Vec<u8>> = (0..100_000).map(|_| vec![1; 500]).collect();
        let last = pieces.pop();
        let full = resident();
        drop(pieces);
        assert!(trim());
        assert!(resident() + 40_000 < full, "{} of {full}", resident());
        drop(last);
    }
}

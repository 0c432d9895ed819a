//! How long a command may take.

use std::time::Duration;

const DEFAULT: Duration = Duration::from_secs(5);
const HEAVY: Duration = Duration::from_secs(30);

/// The time QEMU has for `command` when the caller names none: 30 s for what touches files, creates devices or walks
/// large tables, 5 s for the rest.
pub fn deadline(command: &str) -> Duration {
    match command {
        "device_add"
        | "device_del"
        | "netdev_add"
        | "netdev_del"
        | "object-add"
        | "object-del"
        | "chardev-add"
        | "chardev-change"
        | "chardev-remove"
        | "human-monitor-command"
        | "screendump"
        | "query-qmp-schema"
        | "query-cpu-model-expansion"
        | "query-cpu-model-baseline"
        | "query-cpu-model-comparison"
        | "query-named-block-nodes"
        | "query-block"
        | "query-blockstats"
        | "query-dump-guest-memory-capability"
        | "transaction"
        | "migrate"
        | "migrate-incoming"
        | "dump-guest-memory"
        | "pmemsave"
        | "memsave"
        | "quit"
        | "cont"
        | "stop"
        | "system_reset"
        | "eject"
        | "set_password"
        | "expire_password"
        | "balloon" => HEAVY,
        name if name.starts_with("block")
            || name.starts_with("nbd-server")
            || name.starts_with("snapshot-") =>
        {
            HEAVY
        }
        _ => DEFAULT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heavy_and_light() {
        assert_eq!(deadline("query-status"), DEFAULT);
        assert_eq!(deadline("blockdev-add"), HEAVY);
        assert_eq!(deadline("migrate"), HEAVY);
        assert_eq!(deadline("something-new"), DEFAULT);
    }
}

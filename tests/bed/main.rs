//! What needs more than this machine's kernel: a real systemd that started our units, whole control groups, VLANs, bonds
//! and traffic control, LVM, iSCSI, NFS and SCSI disks. Each test is run in the bed (`virt_testkit::bed`), at
//! TEST_LEVEL=full. They share the machine, one at a time: each takes away what it made.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod filter;
mod groups;
mod interface;
mod network;
mod storage;
mod units;

use virt_testkit::bed;
use virt_testkit::host::Host;
use virt_tests::level;

/// Runs `test` in the bed at the full level.
fn inside<F: FnOnce(&Host)>(test: F) {
    if level(true, false) {
        println!("skipped: boots a machine, for TEST_LEVEL=full");
        return;
    }
    bed::inside(test);
}

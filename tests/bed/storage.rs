//! Pools on real block devices and file servers: LVM, iSCSI, SCSI, multipath, partitions, NFS.

use std::path::Path;
use std::time::{Duration, Instant};

use virt_testkit::bed::{AtEnd, sh, try_sh};
use virt_testkit::host::Host;
use virt_testkit::wait;

use crate::inside;

/// Defines a pool, without starting it; undefined at the end of the test.
fn define(host: &Host, name: &str, kind: &str, rest: &str) -> AtEnd {
    let xml = format!("<pool type='{kind}'><name>{name}</name>{rest}</pool>");
    host.virsh(&["pool-define", &host.document(name, &xml)]);
    AtEnd::sh(format!(
        "virsh -q pool-destroy {name} >/dev/null 2>&1\nvirsh -q pool-undefine {name} >/dev/null 2>&1"
    ))
}

/// Names of a pool's volumes, in order.
fn volumes(host: &Host, pool: &str) -> Vec<String> {
    let text = host.virsh(&["vol-list", pool]);
    let mut names: Vec<_> =
        text.lines().filter_map(|l| l.split_whitespace().next().map(str::to_owned)).collect();
    names.sort();
    names
}

/// The one path of a pool's volume.
fn path(host: &Host, pool: &str, volume: &str) -> String {
    host.virsh(&["vol-path", volume, "--pool", pool])
}

/// Ends a pool whose definition goes too.
fn finish(host: &Host, pool: &str) {
    host.virsh(&["pool-destroy", pool]);
    host.virsh(&["pool-undefine", pool]);
}

/// A block device of so many MiB on a file.
fn loop_device(name: &str, size: u32) -> (String, AtEnd) {
    let device =
        sh(&format!("modprobe loop; truncate -s {size}M /srv/{name}; losetup -f --show /srv/{name}"));
    let undo = AtEnd::sh(format!("losetup -d {device}\nrm -f /srv/{name}"));
    (device, undo)
}

/// A fake SCSI host with so many MiB on each of `targets` disks. Returns its number, `hostN`.
fn scsi_debug(size: u32, targets: u32) -> (String, AtEnd) {
    sh(&format!("modprobe scsi_debug dev_size_mb={size} num_tgts={targets}; udevadm settle"));
    let undo = AtEnd::sh("udevadm settle\nmodprobe -r scsi_debug");
    (sh("basename /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*"), undo)
}

#[test]
fn a_volume_group_lives_and_ends() {
    inside(|host| {
        let (device, _device) = loop_device("lvm", 192);
        let _group =
            AtEnd::sh("vgs --noheadings -o name bedvg >/dev/null 2>&1 && vgremove -ffy bedvg >/dev/null");
        let xml = format!(
            "<source><device path='{device}'/><name>bedvg</name></source><target><path>/dev/bedvg</path></target>"
        );
        let _pool = define(host, "bedvg", "logical", &xml);
        host.virsh(&["pool-build", "bedvg"]);
        host.virsh(&["pool-start", "bedvg"]);
        assert_eq!(volumes(host, "bedvg"), Vec::<String>::new());

        host.virsh(&["vol-create-as", "bedvg", "one", "16M"]);
        assert_eq!(path(host, "bedvg", "one"), "/dev/bedvg/one");
        assert_eq!(sh("blockdev --getsize64 /dev/bedvg/one"), (16 << 20).to_string());
        // What is written is copied, and what is deleted cannot be read from the next one's blocks as if it were its own.
        sh("printf hello | dd of=/dev/bedvg/one conv=fsync status=none");
        host.virsh(&["vol-clone", "one", "two", "--pool", "bedvg"]);
        assert_eq!(sh("head -c 5 /dev/bedvg/two"), "hello");
        host.virsh(&["vol-create-as", "bedvg", "snap", "16M", "--allocation", "8M", "--backing-vol", "one"]);
        assert_eq!(sh("head -c 5 /dev/bedvg/snap"), "hello");
        assert!(
            host.virsh(&["vol-dumpxml", "snap", "--pool", "bedvg"]).contains("<path>/dev/bedvg/one</path>")
        );
        // Sparse: a size that is not taken yet.
        host.virsh(&["vol-create-as", "bedvg", "sparse", "64M", "--allocation", "8M"]);
        assert_eq!(sh("blockdev --getsize64 /dev/bedvg/sparse"), (64 << 20).to_string());
        // Made by someone else: a refresh sees it.
        sh("lvcreate -qq -y -n other -L 4M bedvg");
        host.virsh(&["pool-refresh", "bedvg"]);
        assert_eq!(volumes(host, "bedvg"), ["one", "other", "snap", "sparse", "two"]);
        let too_much = host.try_virsh(&["vol-create-as", "bedvg", "huge", "10G"]);
        assert!(!too_much.ok(), "{too_much}");
        assert_eq!(
            sh("lvs --noheadings -o name bedvg | sort | xargs"),
            "one other snap sparse two",
            "nothing half made"
        );
        let found = host.virsh(&["find-storage-pool-sources-as", "logical"]);
        assert!(found.contains("<name>bedvg</name>") && found.contains(&device), "{found}");
        for name in ["snap", "sparse", "two", "one", "other"] {
            host.virsh(&["vol-delete", name, "--pool", "bedvg"]);
        }
        assert_eq!(sh("lvs --noheadings -o name bedvg"), "");

        host.virsh(&["pool-destroy", "bedvg"]);
        host.virsh(&["pool-delete", "bedvg"]);
        host.virsh(&["pool-undefine", "bedvg"]);
        assert!(!try_sh("vgs bedvg").ok(), "the group is gone");
        assert!(!try_sh(&format!("pvs {device}")).ok(), "the device is free again");
    });
}

#[test]
fn disks_of_a_scsi_host_are_listed_and_partitioned() {
    inside(|host| {
        let (scsi, _scsi) = scsi_debug(48, 2);
        let adapter = format!(
            "<source><adapter type='scsi_host' name='{scsi}'/></source><target><path>/dev/disk/by-id</path></target>"
        );
        let _pool = define(host, "bedscsi", "scsi", &adapter);
        host.virsh(&["pool-start", "bedscsi"]);
        assert_eq!(volumes(host, "bedscsi"), ["unit:0:0:0", "unit:0:1:0"]);
        let first = path(host, "bedscsi", "unit:0:0:0");
        assert!(first.starts_with("/dev/disk/by-id/"), "{first} is not stable");
        let device = sh(&format!("readlink -f {first}"));
        let info = host.virsh(&["vol-info", "unit:0:0:0", "--pool", "bedscsi", "--bytes"]);
        assert!(info.contains(&format!("{}", 48 << 20)), "{info}");
        // The pool and its disk are two views of one thing; a made volume is none of a SCSI host's.
        assert!(!host.try_virsh(&["vol-create-as", "bedscsi", "new", "1M"]).ok());

        for label in ["gpt", "dos"] {
            let pool = format!("bed{label}");
            let xml = format!(
                "<source><device path='{device}'/><format type='{label}'/></source><target><path>/dev</path></target>"
            );
            let _disk = define(host, &pool, "disk", &xml);
            host.virsh(&["pool-build", &pool, "--overwrite"]);
            host.virsh(&["pool-start", &pool]);
            let part = format!("{}1", device.trim_start_matches("/dev/"));
            host.virsh(&["vol-create-as", &pool, &part, "16M"]);
            assert_eq!(volumes(host, &pool), std::slice::from_ref(&part));
            let size: u64 = sh(&format!("blockdev --getsize64 /dev/{part}")).parse().unwrap();
            assert!((15 << 20..=17 << 20).contains(&size), "{size}");
            host.virsh(&["vol-delete", &part, "--pool", &pool]);
            wait::until("the partition is gone", || !Path::new(&format!("/dev/{part}")).exists());
            assert_eq!(volumes(host, &pool), Vec::<String>::new());
            finish(host, &pool);
        }
        finish(host, "bedscsi");
    });
}

#[test]
fn paths_of_one_disk_are_one_volume() {
    inside(|host| {
        sh("printf 'defaults {\\n find_multipaths no\\n}\\n' >/etc/multipath.conf; modprobe dm-multipath
            systemctl start multipathd.service
            modprobe scsi_debug dev_size_mb=32 num_tgts=1 add_host=2 vpd_use_hostno=0; udevadm settle");
        let _undo = AtEnd::sh(
            "systemctl stop multipathd.socket multipathd.service\nmultipath -F\nudevadm settle\nmodprobe -r scsi_debug
             rm -f /etc/multipath.conf",
        );
        wait::until("the two paths are one", || sh("dmsetup ls --target multipath").contains('('));
        let _pool = define(host, "bedmpath", "mpath", "<target><path>/dev/mapper</path></target>");
        host.virsh(&["pool-start", "bedmpath"]);
        let found = volumes(host, "bedmpath");
        assert_eq!(found.len(), 1, "{found:?}");
        let device = path(host, "bedmpath", &found[0]);
        assert_eq!(sh(&format!("blockdev --getsize64 {device}")), (32 << 20).to_string());
        finish(host, "bedmpath");
    });
}

const TARGET: &str = "iqn.2026-01.test:bed";

/// A target with one disk of 32 MiB, served to this machine itself.
fn iscsi_target() -> AtEnd {
    sh(&format!(
        "systemctl start tgt.service; truncate -s 32M /srv/lun
         tgtadm --lld iscsi --mode target --op new --tid 1 -T {TARGET}
         tgtadm --lld iscsi --mode logicalunit --op new --tid 1 --lun 1 -b /srv/lun
         tgtadm --lld iscsi --mode target --op bind --tid 1 -I ALL"
    ));
    AtEnd::sh(
        "tgtadm --lld iscsi --mode target --op delete --force --tid 1\nsystemctl stop tgt.service\nrm -f /srv/lun",
    )
}

#[test]
fn a_target_is_logged_in_to_and_out_of() {
    inside(|host| {
        let _target = iscsi_target();
        sh("modprobe iscsi_tcp; systemctl start iscsid.service");
        let _initiator = AtEnd::sh(
            "iscsiadm -m node -u >/dev/null 2>&1\niscsiadm -m node -o delete >/dev/null 2>&1\nsystemctl stop iscsid.socket iscsid.service",
        );
        let found = host.virsh(&["find-storage-pool-sources-as", "iscsi", "127.0.0.1"]);
        assert!(found.contains(TARGET), "{found}");
        let source = format!("<source><host name='127.0.0.1'/><device path='{TARGET}'/></source>");
        let _pool = define(
            host,
            "bediscsi",
            "iscsi",
            &format!("{source}<target><path>/dev/disk/by-path</path></target>"),
        );
        host.virsh(&["pool-start", "bediscsi"]);
        assert!(sh("iscsiadm -m session").contains(TARGET));
        assert_eq!(volumes(host, "bediscsi"), ["unit:0:0:1"]);
        let disk = path(host, "bediscsi", "unit:0:0:1");
        assert!(disk.starts_with("/dev/disk/by-path/") && disk.contains(TARGET), "{disk}");
        sh(&format!("printf hello | dd of={disk} conv=fsync status=none"));
        assert_eq!(sh("head -c 5 /srv/lun"), "hello", "it is the target's disk");
        // A second disk shows after a refresh.
        sh(
            "truncate -s 16M /srv/lun2; tgtadm --lld iscsi --mode logicalunit --op new --tid 1 --lun 2 -b /srv/lun2",
        );
        host.virsh(&["pool-refresh", "bediscsi"]);
        assert_eq!(volumes(host, "bediscsi"), ["unit:0:0:1", "unit:0:0:2"]);
        // The daemon's end is not the session's.
        sh("systemctl kill -s KILL virtstoraged.service");
        assert_eq!(volumes(host, "bediscsi").len(), 2);
        finish(host, "bediscsi");
        assert!(!try_sh("iscsiadm -m session").out.contains(TARGET), "logged out");
        sh("rm -f /srv/lun2");
    });
}

#[test]
fn a_target_is_read_without_the_kernel() {
    inside(|host| {
        let _target = iscsi_target();
        let xml = format!(
            "<source><host name='127.0.0.1'/><device path='{TARGET}'/>\
             <initiator><iqn name='iqn.2026-01.test:init'/></initiator></source>"
        );
        let _pool = define(host, "beddirect", "iscsi-direct", &xml);
        host.virsh(&["pool-start", "beddirect"]);
        assert_eq!(volumes(host, "beddirect"), ["unit:0:0:1"]);
        let info = host.virsh(&["vol-info", "unit:0:0:1", "--pool", "beddirect", "--bytes"]);
        assert!(info.contains(&(32 << 20).to_string()), "{info}");
        finish(host, "beddirect");
    });
}

/// A file server in this machine that exports `/srv/export`.
fn file_server() -> AtEnd {
    sh("mkdir -p /srv/export /srv/mnt; echo '/srv/export 127.0.0.1(rw,no_root_squash,no_subtree_check,insecure)' >/etc/exports
        systemctl start rpcbind.service nfs-server.service; exportfs -ra");
    AtEnd::sh(
        "umount -f /srv/mnt 2>/dev/null
        systemctl stop nfs-server.service rpcbind.socket rpcbind.service 2>/dev/null
        rm -rf /srv/export /srv/mnt /etc/exports",
    )
}

fn nfs(options: &str) -> String {
    format!(
        "<source><host name='127.0.0.1'/><dir path='/srv/export'/><format type='nfs'/></source>\
         <target><path>/srv/mnt</path></target>{options}"
    )
}

#[test]
fn a_file_servers_folder_is_a_pool() {
    inside(|host| {
        let _server = file_server();
        let found = host.virsh(&["find-storage-pool-sources-as", "netfs", "127.0.0.1"]);
        assert!(found.contains("/srv/export"), "{found}");
        let _pool = define(host, "bednfs", "netfs", &nfs(""));
        host.virsh(&["pool-build", "bednfs"]);
        host.virsh(&["pool-start", "bednfs"]);
        assert!(sh("findmnt -n -o FSTYPE,OPTIONS /srv/mnt").contains("nfs"));
        for option in ["nodev", "nosuid", "noexec"] {
            assert!(sh("findmnt -n -o OPTIONS /srv/mnt").contains(option), "{option}");
        }
        host.virsh(&["vol-create-as", "bednfs", "raw", "8M"]);
        host.virsh(&["vol-create-as", "bednfs", "cow", "8M", "--format", "qcow2"]);
        host.virsh(&["vol-clone", "cow", "copy", "--pool", "bednfs"]);
        assert_eq!(sh("ls /srv/export | xargs"), "copy cow raw");
        assert_eq!(sh("stat -c %s /srv/export/raw"), (8 << 20).to_string());
        for name in ["raw", "cow", "copy"] {
            host.virsh(&["vol-delete", name, "--pool", "bednfs"]);
        }
        finish(host, "bednfs");
        assert!(!try_sh("findmnt /srv/mnt").ok(), "unmounted");
    });
}

#[test]
fn a_dead_file_server_holds_up_nobody() {
    inside(|host| {
        let _server = file_server();
        let _patience =
            AtEnd::sh("rm /etc/libvirt/virtstoraged.conf\nsystemctl restart virtstoraged.service");
        sh("echo look_timeout = 30 >/etc/libvirt/virtstoraged.conf; systemctl restart virtstoraged.service");
        let (other, dir) = ("bedother", "/srv/other");
        let _pool = define(host, "bednfs", "netfs", &nfs(""));
        let _other = define(host, other, "dir", &format!("<target><path>{dir}</path></target>"));
        for name in ["bednfs", other] {
            host.virsh(&["pool-build", name]);
            host.virsh(&["pool-start", name]);
        }
        host.virsh(&["vol-create-as", "bednfs", "there", "1M"]);

        let dead = AtEnd::sh("nft delete table inet beddead");
        sh("nft 'add table inet beddead; add chain inet beddead out { type filter hook output priority 0; }
            add rule inet beddead out tcp dport 2049 drop; add rule inet beddead out tcp sport 2049 drop'");
        let refresh = host.spawn_virsh(&["pool-refresh", "bednfs"]);
        let begin = Instant::now();
        // Reads of the dead pool, changes of others, new clients: all while the refresh hangs.
        assert!(host.virsh(&["pool-list", "--all"]).contains("bednfs"));
        assert_eq!(volumes(host, "bednfs"), ["there"]);
        assert!(host.virsh(&["pool-info", "bednfs"]).contains("running"));
        host.virsh(&["vol-create-as", other, "new", "1M"]);
        host.virsh(&["pool-refresh", other]);
        host.virsh(&["vol-delete", "new", "--pool", other]);
        let took = begin.elapsed();
        let mut refresh = refresh;
        assert!(refresh.try_wait().unwrap().is_none(), "the refresh hangs all this time");
        let said = refresh.wait_with_output().unwrap();
        let waited = begin.elapsed();
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        println!("others {took:?}, refresh {waited:?}: {text}");
        assert!(!said.status.success() && text.contains("did not end within 30 seconds"), "{text}");
        assert!(took < waited && waited < Duration::from_secs(60), "{took:?} of {waited:?}");

        drop(dead);
        // It answers again, and so does its pool. TCP alone would try again after a minute.
        sh("ss -K dport = 2049 >/dev/null || true");
        wait::until("the pool is there again", || host.try_virsh(&["pool-refresh", "bednfs"]).ok());
        if !host.virsh(&["pool-list"]).contains("bednfs") {
            host.virsh(&["pool-start", "bednfs"]);
        }
        assert_eq!(volumes(host, "bednfs"), ["there"]);
        finish(host, "bednfs");
        host.virsh(&["pool-destroy", other]);
        host.virsh(&["pool-delete", other]);
        host.virsh(&["pool-undefine", other]);
    });
}

//! Our units in a real systemd: who starts them, who may end them, what guests are in.

use std::fs;

use virt_testkit::bed::{AtEnd, sh, try_sh};
use virt_testkit::host::{Host, bare_xml};
use virt_testkit::wait;

use crate::inside;

const DAEMONS: [&str; 7] = [
    "virtproxyd",
    "virtqemud",
    "virtnetworkd",
    "virtstoraged",
    "virtsecretd",
    "virtnwfilterd",
    "virtinterfaced",
];

fn active(unit: &str) -> bool {
    try_sh(&format!("systemctl is-active --quiet {unit}")).ok()
}

fn main_pid(unit: &str) -> String {
    sh(&format!("systemctl show --value -p MainPID {unit}"))
}

/// Ends all daemons as an administrator does; their sockets stay.
fn stop_all() {
    sh(&format!("systemctl stop {}", DAEMONS.map(|d| format!("{d}.service")).join(" ")));
}

/// A guest without a system, started.
fn start(host: &Host, stem: &str) -> String {
    let name = host.name(stem);
    host.virsh(&["define", &host.document(&name, &bare_xml(&name))]);
    host.virsh(&["start", &name]);
    name
}

/// The process of a guest.
fn emulator(name: &str) -> u32 {
    let pid = fs::read_to_string(format!("/run/libvirt/qemu/{name}.pid")).expect("a pid file");
    pid.trim().parse().expect("a number")
}

/// The control group of a process, from the root.
fn group(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process");
    text.trim().strip_prefix("0::").expect("only the unified hierarchy").to_owned()
}

#[test]
fn systemd_has_no_objections() {
    inside(|_| {
        let said = try_sh(
            "cd /usr/lib/systemd/system && systemd-analyze verify --man=no virt*.service virt*.socket",
        );
        let ours: Vec<_> = said.err.lines().filter(|l| l.contains("virt")).collect();
        assert!(said.ok() && ours.is_empty(), "{said}");
        // How open each service is to what it may be made to do, 0 to 10. Those that start guests or mount pools cannot
        // be shut in; the one that every client talks to is.
        for (daemon, limit) in
            [("virtproxyd", 2.0), ("virtsecretd", 4.0), ("virtnwfilterd", 9.0), ("virtqemud", 9.8)]
        {
            let told = sh(&format!("systemd-analyze security --no-pager {daemon}.service"));
            let line =
                told.lines().find(|l| l.contains("Overall exposure level")).unwrap_or_default().to_owned();
            let score = line.split_whitespace().find_map(|w| w.parse::<f64>().ok());
            println!("{daemon}: {score:?}");
            assert!(score.is_some_and(|s| s <= limit), "{daemon}: {line}, not over {limit}\n{told}");
        }
    });
}

#[test]
fn the_first_call_starts_what_it_needs() {
    inside(|host| {
        stop_all();
        for daemon in DAEMONS {
            assert!(!active(&format!("{daemon}.service")), "{daemon}");
        }
        host.virsh(&["list", "--all"]);
        let running: Vec<_> = DAEMONS.into_iter().filter(|d| active(&format!("{d}.service"))).collect();
        assert_eq!(running, ["virtproxyd", "virtqemud"]);
        for (daemon, call) in [
            ("virtnetworkd", "net-list"),
            ("virtstoraged", "pool-list"),
            ("virtsecretd", "secret-list"),
            ("virtnwfilterd", "nwfilter-list"),
            ("virtinterfaced", "iface-list"),
        ] {
            host.virsh(&[call]);
            assert!(active(&format!("{daemon}.service")), "{daemon} after {call}");
        }
        // Each may write what it keeps: a unit must not shut that in.
        for (call, undo, xml) in [
            ("net-define", "net-undefine", "<network><name>bedunit</name></network>"),
            (
                "pool-define",
                "pool-undefine",
                "<pool type='dir'><name>bedunit</name><target><path>/srv/u</path></target></pool>",
            ),
            ("nwfilter-define", "nwfilter-undefine", "<filter name='bedunit'/>"),
            (
                "secret-define",
                "secret-undefine",
                "<secret><uuid>5f0a3d4e-6b1c-4c6e-9d8d-2f7b3a1c0e49</uuid></secret>",
            ),
        ] {
            host.virsh(&[call, &host.document("bedunit", xml)]);
            let name =
                if call == "secret-define" { "5f0a3d4e-6b1c-4c6e-9d8d-2f7b3a1c0e49" } else { "bedunit" };
            host.virsh(&[undo, name]);
        }
        assert_eq!(sh(&format!("ps -o user= -p {}", main_pid("virtproxyd.service"))), "virtproxy");
        let failed = sh("systemctl list-units --failed --plain --no-legend 'virt*'");
        assert_eq!(failed, "");
    });
}

#[test]
fn a_daemon_without_work_leaves_and_comes_back() {
    inside(|host| {
        let dir = "/run/systemd/system/virtnetworkd.service.d";
        let _undo =
            AtEnd::sh(format!("rm -rf {dir}; systemctl daemon-reload; systemctl stop virtnetworkd.service"));
        sh(&format!(
            "mkdir -p {dir}
             printf '[Service]\\nExecStart=\\nExecStart=/usr/sbin/virtnetworkd --timeout 2\\n' >{dir}/soon.conf
             systemctl daemon-reload; systemctl stop virtnetworkd.service"
        ));
        host.virsh(&["net-list"]);
        let first = main_pid("virtnetworkd.service");
        wait::until("the daemon leaves", || !active("virtnetworkd.service"));
        assert_eq!(sh("systemctl show --value -p Result virtnetworkd.service"), "success");
        assert!(active("virtnetworkd-grpc.socket"), "its socket stays");
        host.virsh(&["net-list"]);
        assert_ne!(main_pid("virtnetworkd.service"), first);
    });
}

#[test]
fn guests_outlive_their_daemon() {
    inside(|host| {
        let name = start(host, "outlive");
        let (pid, id) = (emulator(&name), host.virsh(&["domid", &name]));
        assert!(!group(pid).contains("virtqemud"), "a stop of the unit would end the guest: {}", group(pid));
        for how in
            ["restart virtqemud", "kill -s KILL virtqemud", "stop virtqemud virtproxyd", "daemon-reexec"]
        {
            sh(&format!("systemctl {how}"));
            assert_eq!(host.virsh(&["domid", &name]), id, "after systemctl {how}");
            assert_eq!(emulator(&name), pid, "after systemctl {how}");
        }
        host.virsh(&["destroy", &name]);
        wait::until("the process is gone", || fs::metadata(format!("/proc/{pid}")).is_err());
    });
}

#[test]
fn a_guest_has_a_control_group_of_its_own() {
    inside(|host| {
        let name = start(host, "group");
        let pid = emulator(&name);
        let group = group(pid);
        println!("{group}");
        assert!(group.starts_with("/machine.slice/") || group.starts_with("/machine"), "{group}");
        let escaped = name.replace('-', "\\x2d");
        assert!(group.contains(&escaped) || group.contains(&name), "{group} is not this guest's own");
        let path = format!("/sys/fs/cgroup{group}");
        assert!(fs::metadata(&path).unwrap().is_dir());
        // systemd must not take away what is in a group it did not make: it knows of it, or it is delegated.
        sh("systemctl daemon-reload");
        assert_eq!(self::group(pid), group);
        host.virsh(&["destroy", &name]);
        wait::until("the group is gone", || fs::metadata(&path).is_err());
    });
}

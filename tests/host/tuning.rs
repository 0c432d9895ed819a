//! What a document limits or protects is in force when the guest runs, or the guest does not start.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use virt_testkit::host::{Host, Options, bare_xml};

/// The document with `parts` before its devices and `devices` among them.
fn with(name: &str, parts: &str, devices: &str) -> String {
    let xml = bare_xml(name);
    assert!(xml.contains("<devices>"), "{xml}");
    xml.replacen("<devices>", &format!("{parts}<devices>{devices}"), 1)
}

/// Host CPUs of the emulator's threads of this name.
fn allowed(emulator: u32, thread: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{emulator}/task")).unwrap().map(|t| t.unwrap().path());
    let named =
        tasks.filter(|t| fs::read_to_string(t.join("comm")).is_ok_and(|comm| comm.starts_with(thread)));
    let list = |task: PathBuf| {
        let status = fs::read_to_string(task.join("status")).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap();
        line.trim().to_owned()
    };
    named.map(list).collect()
}

/// A control file of the group of the emulator's thread of this name, wherever the host has it; version 1's name and version
/// 2's.
fn control_of(emulator: u32, thread: &str, files: [&str; 2]) -> Option<String> {
    let mut tasks = fs::read_dir(format!("/proc/{emulator}/task")).unwrap().map(|t| t.unwrap().path());
    let named = |t: &PathBuf| fs::read_to_string(t.join("comm")).is_ok_and(|c| c.trim().starts_with(thread));
    let task = tasks.find(named).unwrap_or_else(|| panic!("no thread {thread}"));
    let groups = fs::read_to_string(task.join("cgroup")).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|l| l.contains(" - cgroup")).filter_map(|l| l.split(' ').nth(4));
    let mounts: Vec<_> = mounts.collect();
    let paths = groups.lines().filter_map(|l| l.splitn(3, ':').nth(2)).filter(|p| p.contains("qemu-"));
    let mut paths: Vec<_> = paths.collect();
    // The thread's own group before the guest's, which other hierarchies have.
    paths.sort_by_key(|p| std::cmp::Reverse(p.len()));
    let at = |path: &str| mounts.iter().map(|mount| format!("{mount}{path}")).collect::<Vec<_>>();
    let mut places = paths.into_iter().flat_map(at).flat_map(|dir| files.map(|file| format!("{dir}/{file}")));
    places.find_map(|place| fs::read_to_string(place).ok()).map(|text| text.trim().to_owned())
}

/// The same of the whole guest.
fn control(emulator: u32, files: [&str; 2]) -> Option<String> {
    control_of(emulator, "qemu-system", files)
}

/// Period and quota of a thread's group, in either version's words.
fn limit_of(emulator: u32, thread: &str) -> String {
    let both = control_of(emulator, thread, ["cpu.cfs_quota_us", "cpu.max"]).unwrap();
    match control_of(emulator, thread, ["cpu.cfs_period_us", "none"]) {
        Some(period) => format!("{both} {period}"),
        None => both,
    }
}

/// Policy of the emulator's thread of this name, as proc(5) has it.
fn policy(emulator: u32, thread: &str) -> String {
    let mut tasks = fs::read_dir(format!("/proc/{emulator}/task")).unwrap().map(|t| t.unwrap().path());
    let named = |t: &PathBuf| fs::read_to_string(t.join("comm")).is_ok_and(|c| c.trim().starts_with(thread));
    let stat = fs::read_to_string(tasks.find(named).unwrap().join("stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(38).unwrap().to_owned()
}

/// Rows of `virsh schedinfo`, `blkiotune` or `memtune`.
fn rows(host: &Host, command: &[&str]) -> BTreeMap<String, String> {
    let out = host.virsh(command);
    let row = |l: &str| l.split_once(':').map(|(name, value)| (name.trim().into(), value.trim().into()));
    out.lines().filter_map(row).collect()
}

#[test]
fn processor_time_is_limited_from_the_start_and_while_the_guest_runs() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("quotas");
    let parts = "<iothreads>2</iothreads><cputune><period>50000</period><quota>20000</quota>\
                 <global_period>60000</global_period><global_quota>90000</global_quota>\
                 <emulator_period>40000</emulator_period><emulator_quota>10000</emulator_quota>\
                 <iothread_quota>5000</iothread_quota><iothreadpin iothread='1' cpuset='0'/>\
                 <vcpusched vcpus='0' scheduler='batch'/><iothreadsched iothreads='2' scheduler='idle'/></cputune>";
    let xml = with(&name, parts, "").replacen("<vcpu>1</vcpu>", "<vcpu current='1'>2</vcpu>", 1);
    host.virsh(&["define", &host.document(&name, &xml)]);
    let run = host.try_virsh(&["start", &name]);
    if !run.ok() {
        assert!(run.err.contains("cgroup cpu is required for scheduler tuning"), "{run}");
        assert!(host.emulators().is_empty(), "nothing is left of the attempt");
        return;
    }
    let emulator = host.emulators()[0];
    assert_eq!(limit_of(emulator, "CPU 0"), "20000 50000");
    assert_eq!(limit_of(emulator, "qemu-system"), "10000 40000");
    assert_eq!(limit_of(emulator, "IO iothread2"), "5000 100000");
    assert_eq!(allowed(emulator, "IO iothread1"), ["0"]);
    assert_eq!((policy(emulator, "CPU 0").as_str(), policy(emulator, "IO iothread2").as_str()), ("3", "5"));
    let shown = rows(&host, &["schedinfo", &name]);
    let is =
        |name: &str, value: &str| assert_eq!(shown.get(name).map(String::as_str), Some(value), "{shown:?}");
    is("vcpu_quota", "20000");
    is("global_period", "60000");
    is("iothread_period", "100000");

    host.virsh(&[
        "schedinfo",
        &name,
        "--live",
        "--config",
        "--set",
        "vcpu_quota=25000",
        "--set",
        "cpu_shares=700",
    ]);
    assert_eq!(limit_of(emulator, "CPU 0"), "25000 50000");
    let live = host.virsh(&["dumpxml", &name]);
    let config = host.virsh(&["dumpxml", &name, "--inactive"]);
    for xml in [&live, &config] {
        assert!(xml.contains("<quota>25000</quota>") && xml.contains("<shares>700</shares>"), "{xml}");
    }
    // More than the whole guest may have.
    let run = host.try_virsh(&["schedinfo", &name, "--live", "--set", "vcpu_quota=900000"]);
    assert!(run.err.contains("Invalid value '900000' for 'cpu.cfs_quota_us'") || run.ok(), "{run}");
    // Who comes later is under the same limits.
    host.virsh(&["setvcpus", &name, "2", "--live"]);
    let quota = limit_of(emulator, "CPU 0");
    assert_eq!(limit_of(emulator, "CPU 1"), quota);
    host.virsh(&["iothreadadd", &name, "7"]);
    assert_eq!(limit_of(emulator, "IO iothread7"), "5000 100000");
    host.virsh(&["iothreadpin", &name, "7", "0"]);
    assert_eq!(allowed(emulator, "IO iothread7"), ["0"]);
    host.virsh(&["iothreadset", &name, "7", "--poll-max-ns", "5000", "--thread-pool-max", "4", "--live"]);
    let get = r#"{"execute":"qom-get","arguments":{"path":"/objects/iothread7","property":"poll-max-ns"}}"#;
    assert!(host.virsh(&["qemu-monitor-command", &name, get]).contains("5000"));
    assert!(host.virsh(&["dumpxml", &name]).contains("<poll max='5000'/>"));
    let run = host.try_virsh(&["iothreadset", &name, "7", "--thread-pool-min", "8", "--live"]);
    assert!(run.err.contains("thread_pool_min (8) can't be greater than thread_pool_max (4)"), "{run}");
    let run = host.try_virsh(&["schedinfo", &name, "--live", "--set", "cpu_shares=0"]);
    assert!(run.err.contains("shares '0' must be in range [2, 262144]"), "{run}");
    let run = host.try_virsh(&["iothreadpin", &name, "9", "0", "--live"]);
    assert!(run.err.contains("invalid argument: iothread 9 not found"), "{run}");
    // A restarted daemon knows it all.
    host.kill("virtqemud");
    host.virsh(&["schedinfo", &name, "--live", "--set", "vcpu_quota=-1"]);
    assert_eq!(rows(&host, &["schedinfo", &name]).get("vcpu_quota").map(String::as_str), Some("-1"));
    assert!(["-1 50000", "max 50000"].contains(&limit_of(emulator, "CPU 1").as_str()));
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);
}

#[test]
fn memory_and_block_limits_change_while_the_guest_runs() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("limits");
    host.virsh(&["create", &host.document(&name, &bare_xml(&name))]);
    let emulator = host.emulators()[0];
    let memory = |file| control(emulator, file).unwrap_or_default();
    if memory(["memory.limit_in_bytes", "memory.max"]).is_empty() {
        let run = host.try_virsh(&["memtune", &name, "--hard-limit", "600000"]);
        assert!(run.err.contains("cgroup memory controller is not mounted"), "{run}");
        return;
    }
    host.virsh(&[
        "memtune",
        &name,
        "--hard-limit",
        "600000",
        "--swap-hard-limit",
        "700000",
        "--soft-limit",
        "300000",
    ]);
    assert_eq!(memory(["memory.limit_in_bytes", "memory.max"]), "614400000");
    assert_eq!(memory(["memory.soft_limit_in_bytes", "memory.high"]), "307200000");
    let (with_swap, above) =
        (memory(["memory.memsw.limit_in_bytes", "none"]), memory(["none", "memory.swap.max"]));
    assert!(with_swap == "716800000" || above == "102400000", "{with_swap} {above}");
    // Both grow, then both shrink: in between memory alone is never above memory with swap.
    for (hard, swap) in [("800000", "900000"), ("400000", "500000")] {
        host.virsh(&["memtune", &name, "--hard-limit", hard, "--swap-hard-limit", swap]);
        let shown = rows(&host, &["memtune", &name]);
        assert_eq!((shown["hard_limit"].as_str(), shown["swap_hard_limit"].as_str()), (hard, swap));
    }
    let run = host.try_virsh(&["memtune", &name, "--hard-limit", "900000"]);
    assert!(run.err.contains("must be lower than or equal to swap_hard_limit"), "{run}");
    let run = host.try_virsh(&["memtune", &name, "--hard-limit", "8"]);
    assert!(run.err.contains("Unable to write to '") || run.ok(), "{run}");

    let weight = || {
        let bfq = control(emulator, ["blkio.bfq.weight", "io.bfq.weight"]);
        bfq.or_else(|| control(emulator, ["blkio.weight", "io.weight"]))
    };
    if weight().is_some() {
        host.virsh(&["blkiotune", &name, "--weight", "300"]);
        assert!(weight().is_some_and(|w| w.ends_with("300")), "{:?}", weight());
        assert_eq!(rows(&host, &["blkiotune", &name])["weight"], "300");
    }
    let run = host.try_virsh(&["blkiotune", &name, "--device-read-bytes-sec", "/dev/null,1000"]);
    assert!(run.err.contains("Path '/dev/null' must be a block device: Invalid argument"), "{run}");
    let disk =
        fs::read_dir("/sys/block").unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).next();
    if let Some(device) = disk.map(|d| format!("/dev/{d}")).filter(|d| fs::metadata(d).is_ok()) {
        let limit = || {
            let files = ["blkio.throttle.read_bps_device", "io.max"];
            control(emulator, files).unwrap_or_default()
        };
        host.virsh(&["blkiotune", &name, "--device-read-bytes-sec", &format!("{device},1048576")]);
        assert!(limit().contains("1048576"), "{}", limit());
        let shown = rows(&host, &["blkiotune", &name]);
        assert_eq!(shown["device_read_bytes_sec"], format!("{device},1048576"));
        host.virsh(&["blkiotune", &name, "--device-read-bytes-sec", &format!("{device},0")]);
        assert!(!limit().contains("1048576"), "{}", limit());
    }
    host.virsh(&["destroy", &name]);
}

#[test]
fn limits_are_in_force_from_the_start() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("tuned");
    let image = host.files().join("tuned.img");
    fs::write(&image, vec![0; 1 << 20]).unwrap();
    let disk = format!(
        "<disk type='file' device='disk'><source file='{}'/><target dev='vda' bus='virtio'/>\
         <iotune><total_bytes_sec>1048576</total_bytes_sec></iotune></disk>",
        image.display()
    );
    let parts = "<cputune><vcpupin vcpu='0' cpuset='0'/><emulatorpin cpuset='0'/></cputune>";
    host.virsh(&["define", &host.document(&name, &with(&name, parts, &disk))]);
    host.virsh(&["start", &name]);
    let emulator = host.emulators()[0];
    assert_eq!(allowed(emulator, "CPU 0"), ["0"]);
    // The limit as QEMU itself tells it.
    let limits = host.virsh(&["blkdeviotune", &name, "vda", "--live"]);
    assert!(limits.lines().any(|l| l.starts_with("total_bytes_sec") && l.ends_with("1048576")), "{limits}");
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);

    let parts =
        "<memtune><hard_limit unit='MiB'>600</hard_limit></memtune><cputune><shares>300</shares></cputune>";
    host.virsh(&["define", &host.document(&name, &with(&name, parts, ""))]);
    let run = host.try_virsh(&["start", &name]);
    if run.ok() {
        let emulator = host.emulators()[0];
        assert_eq!(control(emulator, ["cpu.shares", "cpu.weight"]).as_deref(), Some("300"));
        let limit = control(emulator, ["memory.limit_in_bytes", "memory.max"]);
        assert_eq!(limit.as_deref(), Some("629145600"));
        host.virsh(&["destroy", &name]);
    } else {
        assert!(run.err.contains("is not available on this host"), "{run}");
        assert!(host.emulators().is_empty(), "nothing is left of the attempt");
    }
    host.virsh(&["undefine", &name]);
}

#[test]
fn what_is_not_applied_does_not_start() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("asking");
    let label = "<seclabel type='static' model='selinux'><label>a:b:c:s0</label></seclabel>";
    let lease = "<lease><lockspace>s</lockspace><key>k</key><target path='/tmp/none'/></lease>";
    let cases = [
        ("<resource><partition>/elsewhere</partition></resource>", "", "elsewhere.partition"),
        ("<resource><partition>elsewhere</partition></resource>", "", "must start with '/'"),
        (label, "", "Security driver model 'selinux' is not available"),
        ("", lease, "lease"),
        ("<vcpu cpuset='1000'>1</vcpu>", "", "CPU affinity"),
    ];
    for (parts, devices, why) in cases {
        let mut xml = with(&name, parts, devices);
        if parts.starts_with("<vcpu") {
            xml = xml.replacen("<vcpu>1</vcpu>", "", 1);
        }
        host.virsh(&["define", &host.document(&name, &xml)]);
        let run = host.try_virsh(&["start", &name]);
        assert!(!run.ok() && run.err.contains(why), "{why}: {run}");
        assert!(host.emulators().is_empty(), "{why}: an emulator is left");
        host.virsh(&["undefine", &name]);
    }
}

#[test]
fn a_document_names_whom_its_guest_runs_as() {
    use std::os::unix::fs::MetadataExt as _;
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("labelled");
    let image = host.files().join("labelled.img");
    fs::write(&image, vec![0; 1 << 20]).unwrap();
    let disk = format!(
        "<disk type='file' device='disk'><source file='{}'/><target dev='vda' bus='virtio'/></disk>",
        image.display()
    );
    let owner = |path: &str| {
        let meta = fs::metadata(path).unwrap();
        (meta.uid(), meta.gid())
    };
    let path = image.to_str().unwrap();
    for (relabel, files) in [("yes", (0, 12)), ("no", (0, 0))] {
        let label = format!(
            "<seclabel type='static' model='dac' relabel='{relabel}'><label>root:+12</label></seclabel>"
        );
        host.virsh(&["create", &host.document(&name, &with(&name, &label, &disk))]);
        let emulator = host.emulators()[0];
        assert_eq!(owner(&format!("/proc/{emulator}")), (0, 12), "relabel={relabel}");
        assert_eq!(owner(path), files, "relabel={relabel}");
        // A restarted daemon gives back what was given, and no more.
        host.kill("virtqemud");
        host.virsh(&["destroy", &name]);
        assert_eq!(owner(path), (0, 0), "relabel={relabel}");
    }
    let label = "<seclabel type='static' model='dac'><label>nosuchuser:root</label></seclabel>";
    let refused = host.try_virsh(&["create", &host.document(&name, &with(&name, label, &disk))]);
    assert!(refused.err.contains("Failed to parse user 'nosuchuser'"), "{refused}");
}

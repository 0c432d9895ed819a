//! What a real guest's agent tells and does, and a guest that sleeps.

use virt_testkit::host::{Host, linux_xml};
use virt_testkit::wait;

#[test]
fn a_guest_answers_by_its_agent() {
    let host = Host::start();
    let name = host.name("agent");
    host.virsh(&["define", &host.document(&name, &linux_xml(&name, &host.image()))]);
    let silent = host.try_virsh(&["domtime", &name]);
    assert!(silent.err.contains("domain is not running"), "{silent}");
    host.virsh(&["start", &name]);
    wait::until("the agent answers", || host.try_virsh(&["domtime", &name]).ok());
    let time = host.virsh(&["domtime", &name]);
    assert!(time.trim_start_matches("Time: ").parse::<u64>().is_ok(), "{time}");
    // The tiny guest has no tool to write its machine's clock with: its agent sets the time, or says that it cannot.
    let set = host.try_virsh(&["domtime", &name, "--time", "86400"]);
    assert!(set.ok() || set.err.contains("unable to execute QEMU agent command 'guest-set-time'"), "{set}");
    assert!(host.virsh(&["guestvcpus", &name]).contains("online"), "vCPUs");
    assert!(host.virsh(&["guestinfo", &name, "--hostname"]).contains("guest"), "its name");
    // A group that this agent does not know is an error by name, and left out of "all".
    host.virsh(&["guestinfo", &name]);
    let cards = host.virsh(&["domifaddr", &name, "--source", "agent"]);
    assert!(cards.lines().any(|l| l.trim_start().starts_with("eth0")), "{cards}");
    let read_only = host.virsh_at(host.readonly_uri(), &["domifaddr", &name, "--source", "agent"]);
    assert_eq!(read_only.code, Some(1), "{read_only}");
    host.virsh(&["domfsinfo", &name]);
    host.virsh(&["domfsfreeze", &name]);
    host.virsh(&["domfsthaw", &name]);
    host.virsh(&["domfstrim", &name]);
    let trim = host.try_virsh(&["domfstrim", &name, "--mountpoint", "/"]);
    assert!(trim.err.contains("Specifying mount point is not supported"), "{trim}");
    host.virsh(&["guest-agent-timeout", &name, "--timeout", "3"]);
    let unknown = host.try_virsh(&["qemu-agent-command", &name, r#"{"execute":"no-such-command"}"#]);
    assert!(unknown.err.contains("unable to execute QEMU agent command"), "{unknown}");
    host.virsh(&["dompmsuspend", &name, "mem"]);
    wait::until("it sleeps", || host.virsh(&["domstate", &name, "--reason"]) == "pmsuspended (unknown)");
    host.virsh(&["dompmwakeup", &name]);
    wait::until("it is awake", || host.virsh(&["domstate", &name, "--reason"]) == "running (event wakeup)");
    wait::until("the agent answers again", || host.try_virsh(&["domtime", &name]).ok());
    // The tiny guest has no tool to power itself off with: its agent does it, or says that it cannot.
    let off = host.try_virsh(&["shutdown", &name, "--mode", "agent"]);
    if !off.ok() {
        assert!(off.err.contains("unable to execute QEMU agent command 'guest-shutdown'"), "{off}");
        host.virsh(&["shutdown", &name, "--mode", "acpi"]);
    }
    wait::until("it has powered off", || host.virsh(&["domstate", &name]) == "shut off");
    host.virsh(&["undefine", &name]);
}

#[test]
fn processors_and_disks_change_while_it_runs() {
    let host = Host::start();
    let name = host.name("grows");
    let xml = linux_xml(&name, &host.image()).replace("<vcpu>1</vcpu>", "<vcpu current='1'>3</vcpu>");
    host.virsh(&["create", &host.document(&name, &xml)]);
    wait::until("the agent answers", || host.try_virsh(&["domtime", &name]).ok());
    host.virsh(&["setvcpus", &name, "3", "--live"]);
    assert_eq!(host.virsh(&["vcpucount", &name, "--live", "--current"]), "3");
    assert!(host.virsh(&["domstats", &name, "--vcpu"]).contains("vcpu.2.state=1"));
    let too_many = host.try_virsh(&["setvcpus", &name, "4", "--live"]);
    assert!(too_many.err.contains("4 > 3"), "{too_many}");
    let size = |host: &Host| host.virsh(&["domblkinfo", &name, "vda"]);
    assert!(size(&host).contains(&(64u64 << 20).to_string()), "{}", size(&host));
    host.virsh(&["blockresize", &name, "vda", "96M"]);
    assert!(size(&host).contains(&(96u64 << 20).to_string()), "{}", size(&host));
    let absent = host.try_virsh(&["blockresize", &name, "vdz", "96M"]);
    assert!(absent.err.contains("disk 'vdz' was not found"), "{absent}");
    assert_eq!(host.virsh(&["domblkerror", &name]), "No errors found");
    host.virsh(&["domdirtyrate-calc", &name, "1"]);
    wait::until("the rate is known", || {
        host.virsh(&["domstats", &name, "--dirtyrate"]).contains("dirtyrate.calc_status=2")
    });
    host.virsh(&["destroy", &name]);
}

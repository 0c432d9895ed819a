//! What starts with the host: a boot is played by ending the daemons and taking away what a boot takes away.

use virt_testkit::host::{Host, bare_xml};
use virt_testkit::wait;

use crate::network::{alone, network};

/// The host boots: nothing runs, and the markers in /run are gone. Guests were ended by the test.
fn boot(host: &Host) {
    for (daemon, folder) in [("virtqemud", "qemu"), ("virtnetworkd", "network")] {
        if host.pid(daemon).is_some() {
            host.kill(daemon);
        }
        std::fs::remove_file(host.root().join("run/libvirt").join(folder).join("autostarted")).unwrap();
    }
}

#[test]
fn guests_and_their_networks_start_once_per_boot() {
    alone(|host| {
        let net = network(host, "boot", "", 77);
        host.virsh(&["net-autostart", &net]);
        let (marked, other) = (host.name("marked"), host.name("other"));
        let card = format!("<interface type='network'><source network='{net}'/></interface><memballoon");
        host.virsh(&["define", &host.document(&marked, &bare_xml(&marked).replace("<memballoon", &card))]);
        host.virsh(&["define", &host.document(&other, &bare_xml(&other))]);
        host.virsh(&["autostart", &marked]);

        // A daemon that comes again within a boot starts nothing.
        host.kill("virtqemud");
        assert_eq!(host.virsh(&["domstate", &marked]), "shut off");
        assert_eq!(host.virsh(&["domstate", &other]), "shut off");

        host.virsh(&["net-destroy", &net]);
        boot(host);
        // The first call wakes virtqemud only; the guest's network comes before the guest.
        wait::until("the marked guest runs", || host.virsh(&["domstate", &marked]) == "running");
        assert!(host.virsh(&["net-list", "--name"]).lines().any(|l| l == net));
        assert_eq!(host.virsh(&["domstate", &other]), "shut off", "only what is marked");
        let log = host.log("virtqemud");
        assert!(!log.contains("cannot start a guest with the host"), "{log}");

        host.virsh(&["destroy", &marked]);
        host.kill("virtqemud");
        assert_eq!(host.virsh(&["domstate", &marked]), "shut off", "once per boot");

        // Marked for one boot: it runs after that one, and not after the next.
        host.virsh(&["autostart", "--once", &other]);
        let once = |host: &Host| host.virsh(&["dominfo", &other]).contains("Autostart Once: enable");
        host.kill("virtqemud");
        assert!(once(host));
        boot(host);
        for name in [&marked, &other] {
            wait::until("both run", || host.virsh(&["domstate", name]) == "running");
        }
        assert!(!once(host));
        host.virsh(&["destroy", &other]);
        host.virsh(&["destroy", &marked]);
        boot(host);
        wait::until("the marked guest runs again", || host.virsh(&["domstate", &marked]) == "running");
        assert_eq!(host.virsh(&["domstate", &other]), "shut off");
        host.virsh(&["destroy", &marked]);
        host.virsh(&["net-destroy", &net]);
    });
}

//! Who may do what: the read-only socket, and two clients at once.

use virt_testkit::host::{Host, bare_xml};

#[test]
fn the_read_only_socket_shows_and_refuses_changes() {
    let host = Host::start();
    let name = host.name("bare");
    let file = host.document(&name, &bare_xml(&name));
    host.virsh(&["define", &file]);
    // Without -r virsh asks for writing; the socket decides.
    let uri = host.readonly_uri();
    let listed = host.virsh_at(uri, &["list", "--all", "--name"]);
    assert!(listed.out.lines().any(|l| l == name), "{listed}");
    for args in [&["start", &name][..], &["undefine", &name], &["define", &file], &["destroy", &name]] {
        let run = host.virsh_at(uri, args);
        assert!(run.code == Some(1) && run.err.contains("read only access prevents"), "{run}");
    }
    let secure = host.virsh_at(uri, &["dumpxml", &name, "--security-info"]);
    assert_eq!(secure.code, Some(1), "{secure}");
    assert_eq!(host.virsh(&["domstate", &name]), "shut off");
    host.virsh(&["undefine", &name]);
}

#[test]
fn two_clients_see_each_others_work() {
    let host = Host::start();
    let names: Vec<_> = (0..8).map(|_| host.name("bare")).collect();
    std::thread::scope(|scope| {
        for half in names.chunks(4) {
            let host = &host;
            scope.spawn(move || {
                for name in half {
                    let file = host.document(name, &bare_xml(name));
                    host.virsh(&["define", &file]);
                    host.virsh(&["start", name]);
                }
            });
        }
    });
    let listed = host.virsh(&["list", "--name"]);
    for name in &names {
        assert!(listed.lines().any(|l| l == name), "{name} is not in\n{listed}");
    }
    let mut ids: Vec<_> = names.iter().map(|n| host.virsh(&["domid", n])).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), names.len(), "each running guest has its own id");
    for name in &names {
        host.virsh(&["destroy", name]);
        host.virsh(&["undefine", name]);
    }
}

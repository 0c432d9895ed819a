//! Consoles as their clients see them: who is let in, where they listen.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use virt_testkit::host::{Host, bare_xml};

use crate::network::alone;

fn with_console(host: &Host, name: &str, console: &str) -> String {
    let xml = bare_xml(name).replace("<serial type='null'/>", &format!("<serial type='null'/>{console}"));
    host.document(name, &xml)
}

fn port(host: &Host, name: &str) -> u16 {
    let shown = host.virsh(&["vncdisplay", name]);
    let display: u16 = shown.rsplit(':').next().unwrap().trim().parse().unwrap();
    5900 + display
}

/// VNC authentication (RFC 6143, 7.2.2): a challenge encrypted with the password, whose bits stand the other way round.
fn is_let_in(port: u16, password: &str) -> bool {
    let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut bytes = [0; 12];
    server.read_exact(&mut bytes).unwrap();
    server.write_all(b"RFB 003.008\n").unwrap();
    let mut count = [0];
    server.read_exact(&mut count).unwrap();
    let mut offered = vec![0; count[0].into()];
    server.read_exact(&mut offered).unwrap();
    assert_eq!(offered, [2], "VNC authentication and nothing else");
    server.write_all(&[2]).unwrap();
    let mut challenge = [0; 16];
    server.read_exact(&mut challenge).unwrap();
    let mut key = [0; 8];
    key.iter_mut().zip(password.bytes()).for_each(|(k, b)| *k = b.reverse_bits());
    let key: String = key.iter().map(|b| format!("{b:02x}")).collect();
    let mut des = Command::new("openssl")
        .args(["enc", "-des-ecb", "-nopad", "-provider", "legacy", "-provider", "default", "-K", &key])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl");
    des.stdin.take().unwrap().write_all(&challenge).unwrap();
    let answer = des.wait_with_output().unwrap();
    assert_eq!(answer.stdout.len(), 16, "openssl knows DES");
    server.write_all(&answer.stdout).unwrap();
    let mut result = [0; 4];
    server.read_exact(&mut result).unwrap();
    u32::from_be_bytes(result) == 0
}

#[test]
fn a_password_holds_from_the_start_and_is_changed_while_the_guest_runs() {
    let host = Host::start();
    let name = host.name("locked");
    let console = |passwd: &str| format!("<graphics type='vnc' autoport='yes' listen='127.0.0.1' {passwd}/>");
    let file = with_console(&host, &name, &console("passwd='pw9XyZ1q'"));
    host.virsh(&["create", &file]);
    let port = port(&host, &name);
    assert!(is_let_in(port, "pw9XyZ1q") && !is_let_in(port, "other"));
    assert!(!host.virsh(&["dumpxml", &name]).contains("pw9XyZ1q"));
    let update = |to: &str| {
        let file = host.document("console", &console(to));
        host.try_virsh(&["update-device", &name, &file, "--live"])
    };
    assert!(update("passwd='second'").ok());
    assert!(is_let_in(port, "second") && !is_let_in(port, "pw9XyZ1q"));
    assert!(update("passwd='second' passwdValidTo='2001-01-01T00:00:00'").ok());
    assert!(!is_let_in(port, "second"), "its time is over");
    let refused = update("passwd='ninechars'");
    assert!(refused.err.contains("VNC password is 9 characters long, only 8 permitted"), "{refused:?}");
    let refused = update("passwd='second' keymap='de'");
    assert!(refused.err.contains("cannot change keymap setting on vnc graphics"), "{refused:?}");
    host.virsh(&["destroy", &name]);
}

#[test]
fn consoles_get_ports_and_sockets() {
    let host = Host::start();
    let name = host.name("seen");
    let start = |console: &str| host.try_virsh(&["create", &with_console(&host, &name, console)]);
    assert!(start("<graphics type='vnc' autoport='yes' websocket='-1'/>").ok());
    let xml = host.virsh(&["dumpxml", &name]);
    let websocket = xml.split("websocket='").nth(1).and_then(|r| r.split('\'').next()).unwrap();
    assert!((5700..5900).contains(&websocket.parse::<u16>().unwrap()), "{xml}");
    host.virsh(&["destroy", &name]);
    assert!(start("<graphics type='vnc'><listen type='socket'/></graphics>").ok());
    let xml = host.virsh(&["dumpxml", &name]);
    let socket = xml.split("socket='").nth(1).and_then(|r| r.split('\'').next()).unwrap().to_owned();
    assert!(socket.ends_with("/vnc.sock"), "{xml}");
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    host.virsh(&["destroy", &name]);
    let refused = start("<graphics type='vnc' port='80'/>");
    assert!(refused.err.contains("vnc port must be in range [5900,65535]"), "{refused:?}");
}

#[test]
fn a_console_listens_in_a_network() {
    alone(|host| {
        let (name, net) = (host.name("shown"), host.name("desk"));
        let network = format!(
            "<network><name>{net}</name><bridge name='vtdesk'/><ip address='192.0.2.1' netmask='255.255.255.0'/></network>"
        );
        host.virsh(&["net-create", &host.document(&net, &network)]);
        let console = format!(
            "<graphics type='vnc' autoport='yes'><listen type='network' network='{net}'/></graphics>"
        );
        host.virsh(&["create", &with_console(host, &name, &console)]);
        let xml = host.virsh(&["dumpxml", &name]);
        let listen = format!("<listen type='network' address='192.0.2.1' network='{net}'/>");
        assert!(xml.contains(&listen), "{xml}");
        host.virsh(&["destroy", &name]);
        host.virsh(&["net-destroy", &net]);
        let missing = console.replace(&net, "no-such-network");
        let refused = host.try_virsh(&["create", &with_console(host, &name, &missing)]);
        assert!(refused.err.contains("no network with matching name 'no-such-network'"), "{refused:?}");
    });
}

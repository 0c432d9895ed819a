//! Interface documents: recorded ones come back as they are (`VIRT_CONFORMANCE` names their folder), wrong ones do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use virt_model::interface::Interface;

#[test]
fn recorded_documents_come_back() {
    let Some(dir) = std::env::var_os("VIRT_CONFORMANCE") else {
        println!("skipped: VIRT_CONFORMANCE is not set");
        return;
    };
    let (mut count, mut wrong) = (0, Vec::new());
    for file in
        std::fs::read_dir(std::path::Path::new(&dir).join("cases/interface-xml")).expect("cases").flatten()
    {
        count += 1;
        let text = std::fs::read_to_string(file.path()).unwrap();
        match Interface::parse(&text) {
            Ok(read) if read.format() == text => {}
            other => wrong.push(format!("{}: {:?}", file.path().display(), other.map(|i| i.format()))),
        }
    }
    assert!(count > 0 && wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn wrong_documents_are_refused() {
    let refused = |xml: &str| Interface::parse(xml).unwrap_err().message();
    assert_eq!(refused("<interface type='ethernet'/>"), "XML error: interface has no name");
    assert_eq!(refused("<interface name='x'/>"), "XML error: interface misses the type attribute");
    assert_eq!(refused("<interface type='foo' name='x'/>"), "XML error: unknown interface type foo");
    assert_eq!(
        refused("<interface type='vlan' name='x'><vlan tag='5'/></interface>"),
        "XML error: vlan misses the interface name"
    );
    assert_eq!(
        refused(
            "<interface type='ethernet' name='x'><protocol family='ipv4'><ip address='a::1'/></protocol></interface>"
        ),
        "XML error: address a::1 is not of family ipv4"
    );
    let mut deep = "<interface type='ethernet' name='x'/>".to_string();
    for _ in 0..200 {
        deep = format!("<interface type='bridge' name='b'><bridge>{deep}</bridge></interface>");
    }
    assert!(Interface::parse(&deep).is_err());
}

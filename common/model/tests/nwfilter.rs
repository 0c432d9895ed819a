//! Filter documents: recorded cases of the reference (`VIRT_CONFORMANCE` names their folder) and a table of what it
//! was seen to make of single rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use virt_model::Mode;
use virt_model::nwfilter::Filter;
use virt_model::nwfilter::binding::Binding;
use virt_xml::Document;

fn tree(text: &str) -> virt_model::Element {
    Document::parse(text, Mode::CONFIG, virt_error::Domain::Nwfilter)
        .expect("well-formed")
        .root()
        .to_element()
}

fn sorted(mut e: virt_model::Element) -> virt_model::Element {
    e.attrs.sort();
    for child in &mut e.children {
        match child {
            virt_xml::Node::Element(inner) => *inner = sorted(std::mem::take(inner)),
            virt_xml::Node::Text(text) => *text = text.trim().to_string(),
        }
    }
    e
}

#[test]
fn recorded_cases() {
    let Some(dir) = std::env::var_os("VIRT_CONFORMANCE") else {
        println!("skipped: VIRT_CONFORMANCE is not set");
        return;
    };
    let (mut count, mut wrong) = (0, Vec::new());
    for file in std::fs::read_dir(std::path::Path::new(&dir).join("cases/nwfilter")).expect("cases").flatten()
    {
        let path = file.path().to_string_lossy().to_string();
        let Some(stem) = path.strip_suffix(".in.xml") else { continue };
        count += 1;
        let read = Filter::parse(&std::fs::read_to_string(&path).unwrap());
        let verdict = match std::fs::read_to_string(format!("{stem}.out.xml")) {
            Ok(want) => match read {
                Ok(filter) => {
                    let out = filter.format();
                    let again = Filter::parse(&out).expect("own output");
                    (again == filter && sorted(tree(&out)) == sorted(tree(&want))).then_some(()).ok_or(out)
                }
                Err(e) => Err(format!("{e:?}")),
            },
            Err(_) => {
                let want = std::fs::read_to_string(format!("{stem}.err.json")).unwrap();
                let want: serde_json::Value = serde_json::from_str(&want).unwrap();
                let code = read.err().map(|e| e.code() as i64);
                (code == want["code"].as_i64()).then_some(()).ok_or(format!("want {want} got {code:?}"))
            }
        };
        wrong.extend(verdict.err().map(|why| format!("{stem}: {why}")));
    }
    assert!(count > 0 && wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

/// What comes back of one rule's protocol, on one line, or the error.
fn rule(body: &str) -> String {
    let xml = format!("<filter name='f'><rule action='accept' direction='out'>{body}</rule></filter>");
    match Filter::parse(&xml) {
        Err(e) => e.message(),
        Ok(filter) => {
            let out = filter.format();
            let lines: Vec<&str> =
                out.lines().map(str::trim).filter(|l| !l.contains("rule") && !l.contains("filter")).collect();
            lines.join("")
        }
    }
}

#[test]
fn values_as_the_reference_writes_them() {
    let table = [
        ("<tcp dscp='0x3F'/>", "<tcp dscp='0x3f'/>"),
        ("<tcp dscp='010'/>", "<tcp dscp='10'/>"),
        ("<mac protocolid='0x806'/>", "<mac protocolid='arp'/>"),
        ("<arp opcode='REPLY' gratuitous='1'/>", "<arp opcode='Reply' gratuitous='true'/>"),
        ("<ip protocol='58'/>", "<ip protocol='icmpv6'/>"),
        ("<tcp srcipaddr='1.2.3' srcipmask='255.255.0.0'/>", "<tcp srcipaddr='1.2.0.3' srcipmask='16'/>"),
        ("<tcp srcipaddr='0x7f.1'/>", "<tcp srcipaddr='127.0.0.1'/>"),
        (
            "<tcp-ipv6 srcipaddr='A:B::0:1' srcipmask='ffff:ffff::'/>",
            "<tcp-ipv6 srcipaddr='a:b::1' srcipmask='32'/>",
        ),
        ("<tcp-ipv6 srcipaddr='::10.1.2.3'/>", "<tcp-ipv6 srcipaddr='::10.1.2.3'/>"),
        ("<tcp state='ESTABLISHED,new, RELATED'/>", "<tcp state='NEW,ESTABLISHED,RELATED'/>"),
        ("<tcp state='NONE,NEW'/>", "<tcp state='NONE'/>"),
        ("<tcp state=''/>", "<tcp state=''/>"),
        ("<tcp flags='SYN/'/>", "<tcp flags='SYN/NONE'/>"),
        ("<tcp flags='syn,FIN/all'/>", "<tcp flags='FIN,SYN/ALL'/>"),
        ("<all ipset='a b' ipsetflags='SRC,dst'/>", "<all ipset='a b' ipsetflags='src,dst'/>"),
        (
            "<tcp srcipaddr='$A[ @0 ] ' srcportstart='$B[@2 ]'/>",
            "<tcp srcipaddr='$A' srcportstart='$B[@2]'/>",
        ),
        // Which attributes `match='no'` takes along.
        ("<tcp match='no' dstportstart='22'/>", "<tcp dstportstart='22'/>"),
        (
            "<tcp match='no' srcportstart='1'/><tcp dstportend='2'/>",
            "<tcp match='no' srcportstart='1' dstportend='2'/>",
        ),
        (
            "<mac match='no' srcmacmask='ff:ff:ff:ff:ff:ff' protocolid='arp'/>",
            "<mac srcmacmask='ff:ff:ff:ff:ff:ff'/><mac match='no' protocolid='arp'/>",
        ),
        (
            "<all match='no' ipset='a'/><all ipsetflags='src'/>",
            "<all ipsetflags='src'/><all match='no' ipset='a'/>",
        ),
        (
            "<ipv6 match='no' type='1' code='3'/><ipv6 typeend='2' protocol='icmpv6'/>",
            "<ipv6 protocol='icmpv6'/><ipv6 match='no' type='1' typeend='2' code='3'/>",
        ),
        // Only the first protocol counts.
        ("<all/><tcp dscp='2'/><all dscp='3'/>", "<all dscp='3'/>"),
        ("<bogus/>", ""),
    ];
    for (given, want) in table {
        assert_eq!(rule(given), want, "{given}");
    }
}

#[test]
fn priorities_as_the_reference_writes_them() {
    let table = [
        ("<filter name='f' priority='5'/>", "<filter name='f' chain='root'"),
        ("<filter name='f' chain='root' priority='5'/>", "<filter name='f' chain='root' priority='5'"),
        ("<filter name='f' chain='ipv6'/>", "<filter name='f' chain='ipv6' priority='-600'"),
        ("<filter name='f' chain='ipv6' priority='0'/>", "<filter name='f' chain='ipv6'"),
    ];
    for (given, want) in table {
        let out = Filter::parse(given).unwrap().format();
        assert_eq!(out.lines().next().unwrap().trim_end_matches(['/', '>']), want, "{given}");
    }
}

#[test]
fn refusals_are_the_references() {
    let illegal = [
        ("<tcp dscp='64'/>", "dscp", "64"),
        ("<tcp connlimit-above='0x10'/>", "connlimit-above", "0x10"),
        ("<mac protocolid='0x5ff'/>", "protocolid", "0x5ff"),
        ("<mac srcmacmask='ff:0:ff:0:0:0'/>", "srcmacmask", "ff:0:ff:0:0:0"),
        ("<tcp srcipaddr='a::1'/>", "srcipaddr", "a::1"),
        ("<tcp srcipaddr='1.2.3.4/24'/>", "srcipaddr", "1.2.3.4/24"),
        ("<tcp srcipmask='255.255.0.255'/>", "srcipmask", "255.255.0.255"),
        ("<tcp flags='SYN'/>", "flags", "SYN"),
        ("<tcp state='BOGUS'/>", "state", "BOGUS"),
        ("<all ipset='a/b'/>", "ipset", "a/b"),
        ("<all ipsetflags='src,'/>", "ipsetflags", "src,"),
        ("<tcp srcipaddr='$A-b'/>", "srcipaddr", "$A-b"),
        ("<tcp srcipaddr='$A[@1001]'/>", "srcipaddr", "$A[@1001]"),
        ("<tcp srcipaddr='$A[1'/>", "srcipaddr", "$A[1"),
    ];
    for (given, attr, value) in illegal {
        assert_eq!(rule(given), format!("internal error: {attr} has illegal value {value}"), "{given}");
    }
    let refused = |xml: &str| Filter::parse(xml).unwrap_err().message();
    assert_eq!(refused("<filter/>"), "internal error: filter has no name");
    assert_eq!(
        refused("<filter name='f' chain='ipv4-abcdefgh'/>"),
        "invalid argument: Name of chain is longer than 12 characters"
    );
    assert_eq!(
        refused("<filter name='f' chain='foo'/>"),
        "invalid argument: Invalid chain name 'foo'. Please use a chain name called 'root' or any of the following \
         prefixes: mac, vlan, stp, arp, rarp, ipv4, ipv6"
    );
    assert_eq!(
        refused("<filter name='f' chain='arp' priority='1001'/>"),
        "invalid argument: Priority '1001' is outside valid range of [-1000,1000]"
    );
    let binding = |xml: &str| Binding::parse(xml).unwrap_err().message();
    assert_eq!(binding("<filterbinding/>"), "internal error: filter binding has no port dev name");
    let port = "<filterbinding><portdev name='a'/>";
    assert_eq!(
        binding(&format!("{port}</filterbinding>")),
        "internal error: filter binding has no owner name"
    );
    assert_eq!(
        binding(&format!("{port}<linkdev/></filterbinding>")),
        "internal error: filter binding has no link dev name"
    );
    let whole = format!(
        "{port}<owner><name>g</name><uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid></owner>\
         <mac address='52:54:00:01:02:03'/><filterref/></filterbinding>"
    );
    assert_eq!(binding(&whole), "internal error: filter binding has no filter reference");
}

#[test]
fn a_binding_comes_back() {
    let xml = "<filterbinding>\n  <owner>\n    <name>g</name>\n    <uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid>\n  \
               </owner>\n  <portdev name='vnet0'/>\n  <linkdev name='br0'/>\n  <mac address='52:54:00:01:02:03'/>\n  \
               <filterref filter='clean-traffic'>\n    <parameter name='IP' value='10.0.0.1'/>\n  </filterref>\n\
               </filterbinding>\n";
    assert_eq!(Binding::parse(xml).unwrap().format(), xml);
    let odd = xml.replace("10.0.0.1", "1;drop");
    assert!(
        !Binding::parse(&odd).unwrap().format().contains("drop"),
        "a value that cannot be one is left out"
    );
}

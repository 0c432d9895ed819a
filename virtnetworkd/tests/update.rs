//! Changes of one part of a network: what each command makes of it, and which fault is told first.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use virt_error::Code;
use virt_model::Mode;
use virt_model::network::Network;
use virtnetworkd::update::{Command, Update};

const NAT: &str = "<network><name>n</name><forward mode='nat'/><bridge name='b'/><dns><txt name='t' value='v'/>\
    <srv service='s' protocol='tcp' target='x' port='80'/><host ip='10.0.0.9'><hostname>h9</hostname></host>\
    <host ip='10.0.0.8'><hostname>h8</hostname></host></dns>\
    <ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.0.10' end='10.0.0.20'/>\
    <host mac='52:54:00:00:00:01' name='one' ip='10.0.0.101'/></dhcp></ip><ip address='10.0.1.1' prefix='24'/>\
    <ip family='ipv6' address='fd00::1' prefix='64'/></network>";
const V6: &str =
    "<network><name>n</name><bridge name='b'/><ip family='ipv6' address='fd00::1' prefix='64'/></network>";
const BARE: &str = "<network><name>n</name><bridge name='b'/></network>";
const GROUPS: &str = "<network><name>n</name><forward mode='bridge'/><bridge name='b'/>\
    <portgroup name='a' default='yes'/><portgroup name='c'/></network>";

const MODIFY: u32 = 1;
const DELETE: u32 = 2;
const LAST: u32 = 3;
const FIRST: u32 = 4;

fn changed(base: &str, command: u32, section: u32, parent: i32, xml: &str) -> Result<String, (Code, String)> {
    let mut net = Network::parse(base, Mode::CONFIG).unwrap();
    let update = Update { command: Command::from_number(command), section, parent, xml: xml.into() };
    update.apply(&mut net).map_err(|e| (e.code(), e.message()))?;
    let text = net.format(Mode::CONFIG);
    // What was changed can be read again.
    assert_eq!(Network::parse(&text, Mode::CONFIG.known()).unwrap().format(Mode::CONFIG), text);
    Ok(text)
}

/// What is refused, with a part of the text.
#[test]
fn faults_are_told_in_order() {
    let host = "<host mac='52:54:00:00:00:77' ip='10.0.0.7'/>";
    let rows = [
        // XML first, then the section, the element, the place, the fields, the command.
        (NAT, 9, 1, -1, "<", Code::XmlDetail, "at line 1"),
        (
            NAT,
            9,
            8,
            -1,
            "<pf/>",
            Code::OperationUnsupported,
            "can't update 'forward pf' section of network 'n'",
        ),
        (NAT, 9, 13, -1, "<pf/>", Code::OperationUnsupported, "can't update unrecognized section"),
        (BARE, 9, 4, -1, "<txt/>", Code::XmlError, "unexpected element <txt>, expecting <host>"),
        (BARE, 9, 4, -1, host, Code::OperationInvalid, "no <ip> element found in network 'n'"),
        (
            NAT,
            9,
            5,
            7,
            "<range/>",
            Code::OperationInvalid,
            "couldn't update dhcp host entry - no <ip> element found at index 7",
        ),
        (NAT, 9, 4, -1, "<host mac='zz'/>", Code::XmlError, "Cannot parse MAC address 'zz' in network 'n'"),
        (NAT, 9, 4, -1, host, Code::OperationUnsupported, "unrecognized network update command code 9"),
        (NAT, MODIFY, 12, -1, "<txt/>", Code::OperationUnsupported, "DNS SRV records cannot be modified"),
        (NAT, MODIFY, 5, -1, "<range/>", Code::OperationUnsupported, "dhcp ranges cannot be modified"),
        (NAT, LAST, 7, -1, "<interface/>", Code::XmlError, "missing dev attribute in <interface> element"),
        // One DHCP section a family, and its family only.
        (NAT, LAST, 4, 1, host, Code::OperationInvalid, "only for a single IPv4 address on each network"),
        (
            NAT,
            LAST,
            4,
            -1,
            "<host mac='52:54:00:00:00:77' ip='fd00::7'/>",
            Code::OperationInvalid,
            "must match the address family",
        ),
        (
            NAT,
            LAST,
            5,
            0,
            "<range start='10.0.5.7' end='10.0.5.9'/>",
            Code::InternalError,
            "not entirely within network 10.0.0.1/24",
        ),
        (V6, LAST, 4, -1, host, Code::XmlError, "IPv6 static host definition"),
        // Twins.
        (
            NAT,
            LAST,
            4,
            -1,
            "<host mac='52:54:00:00:00:AB' name='one' ip='10.0.0.7'/>",
            Code::OperationInvalid,
            "<host mac='52:54:00:00:00:AB' name='one' ip='10.0.0.7'/>",
        ),
        (
            NAT,
            MODIFY,
            4,
            -1,
            "<host name='two' ip='10.0.0.7'/>",
            Code::OperationInvalid,
            "\"mac='unknown'\" \"name='two'\"",
        ),
        (
            NAT,
            LAST,
            10,
            -1,
            "<host ip='10.0.0.9'><hostname>q</hostname></host>",
            Code::OperationInvalid,
            "already at least one DNS HOST record",
        ),
        (
            NAT,
            DELETE,
            10,
            -1,
            "<host ip='10.0.0.9'><hostname>h8</hostname></host>",
            Code::OperationInvalid,
            "multiple matching DNS HOST",
        ),
        (NAT, MODIFY, 10, -1, "<host/>", Code::XmlDetail, "Missing ip and hostname in network 'n'"),
        (NAT, LAST, 10, -1, "<host/>", Code::XmlDetail, "Missing hostname in network 'n'"),
        (
            NAT,
            MODIFY,
            11,
            -1,
            "<txt name='t'/>",
            Code::OperationInvalid,
            "missing value of modifying DNS TXT record",
        ),
        (
            NAT,
            LAST,
            11,
            -1,
            "<txt name='a,b' value='x'/>",
            Code::XmlDetail,
            "prohibited character in DNS TXT record name 'a,b'",
        ),
        (
            NAT,
            LAST,
            12,
            -1,
            "<srv service='q' protocol='tcp' port='x'/>",
            Code::XmlDetail,
            "invalid DNS SRV port attribute",
        ),
        (
            GROUPS,
            MODIFY,
            9,
            -1,
            "<portgroup name='c' default='yes'/>",
            Code::OperationInvalid,
            "already set as the default",
        ),
        (
            GROUPS,
            DELETE,
            9,
            -1,
            "<portgroup name=''/>",
            Code::XmlError,
            "Missing required name attribute in portgroup",
        ),
    ];
    for (base, command, section, parent, xml, code, text) in rows {
        let (got, message) = changed(base, command, section, parent, xml).unwrap_err();
        assert!(got == code && message.contains(text), "{command} {section} {xml}: {got:?} {message}");
    }
}

#[test]
fn parts_come_and_go_where_they_belong() {
    let rows = [
        (
            NAT,
            FIRST,
            4,
            -1,
            "<host mac='52:54:0:0:0:A' ip='10.0.0.7'/>",
            "<host mac='52:54:0:0:0:A' ip='10.0.0.7'/>\n      <host mac='52:54:00:00:00:01'",
        ),
        (
            NAT,
            LAST,
            5,
            -7,
            "<range start='10.0.0.30' end='10.0.0.40'/>",
            "end='10.0.0.20'/>\n      <range start='10.0.0.30'",
        ),
        (V6, LAST, 4, -1, "<host id='00:01' ip='fd00::7'/>", "<host id='00:01' ip='fd00::7'/>"),
        (
            NAT,
            MODIFY,
            4,
            -1,
            "<host mac='52:54:00:00:00:55' name='five' ip='10.0.0.101'/>",
            "<host mac='52:54:00:00:00:55' name='five' ip='10.0.0.101'/>\n    </dhcp>",
        ),
        (NAT, LAST, 10, -1, "<host ip='10.0.0.7'><hostname>h9</hostname></host>", "<host ip='10.0.0.7'>"),
        (
            NAT,
            DELETE,
            10,
            -1,
            "<host ip='10.0.0.7'><hostname>h9</hostname></host>",
            "port='80'/>\n    <host ip='10.0.0.8'>",
        ),
        (NAT, LAST, 10, -1, "<host ip='010.0.0.7'><hostname>q</hostname></host>", "<host ip='8.0.0.7'>"),
        (
            GROUPS,
            MODIFY,
            9,
            -1,
            "<portgroup name='c' default='q'><bandwidth/></portgroup>",
            "<portgroup name='c'>\n  </portgroup>",
        ),
        (NAT, FIRST, 7, -1, "<interface dev='e0'/>", "<forward dev='e0' mode='nat'>"),
    ];
    for (base, command, section, parent, xml, text) in rows {
        let got = changed(base, command, section, parent, xml).unwrap();
        assert!(got.contains(text), "{command} {section} {xml}: {got}");
    }
}

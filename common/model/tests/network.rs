//! Network documents: recorded cases of the reference (`VIRT_CONFORMANCE` names their folder) and a table of rules.
#![allow(clippy::expect_used)] // A test's helpers may fail loudly.

use std::path::Path;

use virt_model::network::Network;
use virt_model::network::port::NetworkPort;
use virt_model::{Element, Mode};
use virt_xml::Document;

fn tree(text: &str) -> Element {
    let text = text.replace("ns0:", "dnsmasq:").replace(":ns0", ":dnsmasq");
    Document::parse(&text, Mode::CONFIG, virt_error::Domain::Network)
        .expect("well-formed")
        .root()
        .to_element()
}

/// The first difference; `*` stands for any value, and the order of attributes does not count.
fn difference(want: &Element, got: &Element, path: &str) -> Option<String> {
    let path = format!("{path}/{}", want.name);
    let sorted = |e: &Element| {
        let mut attrs = e.attrs.clone();
        attrs.sort();
        attrs
    };
    let (a, b) = (sorted(want), sorted(got));
    let same = |(x, y): (&(String, String), &(String, String))| x.0 == y.0 && (x.1 == "*" || x.1 == y.1);
    if want.name != got.name || a.len() != b.len() || !a.iter().zip(&b).all(same) {
        return Some(format!("{path}: want {a:?} got <{}> {b:?}", got.name));
    }
    if want.text().trim() != "*" && want.text().trim() != got.text().trim() {
        return Some(format!("{path}: want text {:?} got {:?}", want.text(), got.text()));
    }
    let (a, b): (Vec<_>, Vec<_>) = (want.elements().collect(), got.elements().collect());
    if let Some(d) = a.iter().zip(&b).find_map(|(x, y)| difference(x, y, &path)) {
        return Some(d);
    }
    let names = |v: &[&Element]| v.iter().map(|e| e.name.clone()).collect::<Vec<_>>().join(" ");
    (a.len() != b.len()).then(|| format!("{path}: want [{}] got [{}]", names(&a), names(&b)))
}

/// Fills in what the driver makes up.
fn complete(net: &mut Network) {
    net.uuid.get_or_insert_with(|| virt_model::Uuid::from_u128(1));
    if net.owns_bridge() {
        net.mac.get_or_insert(virt_model::Mac([0x52, 0x54, 0, 0, 0, 1]));
    }
}

fn recorded(case: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(case).expect("a case");
    let stem = case.to_string_lossy().trim_end_matches(".in.xml").to_string();
    let read = Network::parse(&text, Mode::CONFIG);
    let Ok(want) = std::fs::read_to_string(format!("{stem}.out.xml")) else {
        let want = std::fs::read_to_string(format!("{stem}.err.json")).expect("an answer");
        // Only the host knows what its PCI devices are.
        if want.contains("SR-IOV") {
            return read.map(drop).map_err(|e| format!("{e:?}"));
        }
        let Err(e) = read else { return Err("accepted".into()) };
        let said = serde_json::from_str::<serde_json::Value>(&want).expect("JSON");
        let got = (e.code() as i64, e.message());
        let want =
            (said["code"].as_i64().unwrap_or(0), said["message"].as_str().unwrap_or_default().to_string());
        return if got == want { Ok(()) } else { Err(format!("want {want:?} got {got:?}")) };
    };
    let mut net = read.map_err(|e| format!("{e:?}"))?;
    complete(&mut net);
    let out = net.format(Mode::CONFIG);
    let again = Network::parse(&out, Mode::CONFIG).map_err(|e| format!("own output: {e:?}"))?;
    if again != net {
        return Err("reading what was written gives another document".into());
    }
    difference(&tree(&want), &tree(&out), "").map_or(Ok(()), Err)
}

#[test]
fn recorded_cases() {
    let Some(dir) = std::env::var_os("VIRT_CONFORMANCE") else {
        println!("skipped: VIRT_CONFORMANCE is not set");
        return;
    };
    let (mut total, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(Path::new(&dir).join("cases/network")).expect("the suite") {
        let path = entry.expect("an entry").path();
        if path.to_string_lossy().ends_with(".in.xml") {
            total += 1;
            if let Err(why) = recorded(&path) {
                wrong.push(format!("{}: {why}", path.display()));
            }
        }
    }
    assert!(total > 40 && wrong.is_empty(), "{} of {total}\n{}", total - wrong.len(), wrong.join("\n"));
}

/// One document a rule, with what the reference answered.
#[test]
fn rules() {
    let name = "<name>netprobe1</name>";
    let base = format!("{name}<forward mode='nat'/><bridge name='vnp1'/>");
    let mut lines = include_str!("network_rules.txt").lines().filter(|l| !l.starts_with('#'));
    let (mut total, mut wrong) = (0, Vec::new());
    while let (Some(doc), Some(want)) = (lines.next(), lines.next()) {
        total += 1;
        let body = doc.replace("@N", name).replace("@B", &base);
        let text = if body.starts_with("<network") { body } else { format!("<network>{body}</network>") };
        let got = match Network::parse(&text, Mode::CONFIG) {
            Ok(net) => {
                let flat: String = net.format(Mode::CONFIG).lines().map(str::trim).collect();
                format!("= {flat}")
            }
            Err(e) => format!("! {} {} {}", e.code() as i32, e.domain() as i32, e.message()),
        };
        if got.trim_end() != want.trim_end() {
            wrong.push(format!("{doc}\n   want {want}\n   got  {got}"));
        }
    }
    assert!(total > 200, "{total}");
    assert!(wrong.is_empty(), "{} of {total} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_port_comes_back_equal() {
    let text = "<networkport>
  <uuid>5d744f21-ba4a-4d6e-bdb2-30a35ff3207d</uuid>
  <owner>
    <name>vm1</name>
    <uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid>
  </owner>
  <group>web1</group>
  <mac address='52:54:00:7b:35:93'/>
  <port isolated='yes'/>
  <rxfilters trustGuest='yes'/>
  <plug type='bridge' bridge='br0' macTableManager='libvirt'/>
</networkport>
";
    assert_eq!(NetworkPort::parse(text).expect("a port").format(), text);
    let refused = |text: &str| NetworkPort::parse(text).expect_err("a UUID is missing").message();
    let owner = "<owner><name>x</name></owner></networkport>";
    assert_eq!(refused(&format!("<networkport>{owner}")), "internal error: network port has no uuid");
    let uuid = "<networkport><uuid>5d744f21-ba4a-4d6e-bdb2-30a35ff3207d</uuid>";
    assert_eq!(refused(&format!("{uuid}{owner}")), "internal error: network port has no owner UUID");
}

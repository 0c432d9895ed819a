//! What each rule looks at, against recorded firewall commands of the reference (`VIRT_CONFORMANCE` names their folder):
//! the same matches in the same chains, in the words of ebtables and iptables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use virt_model::nwfilter::protocol::Layer;
use virt_model::nwfilter::rule::Action;
use virt_model::nwfilter::value::{STATES, TCP_FLAGS};
use virt_model::nwfilter::variable::Parameters;
use virt_model::nwfilter::{Chain, Filter};
use virtnwfilterd::rules::compile::{Compiled, compile};
use virtnwfilterd::rules::matches::{Field, Match, Test, Way};
use virtnwfilterd::rules::plan::collect;
use virtnwfilterd::rules::variables::expand;

/// The chains' rules, each a sorted list of conditions and its verdict.
type Rules = BTreeMap<String, Vec<Vec<String>>>;

fn names(names: &[&str], bits: u8) -> String {
    let all = (1_u16 << names.len()) - 1;
    match u16::from(bits) {
        0 => "NONE".into(),
        n if n == all => "ALL".into(),
        _ => {
            let set: Vec<_> =
                names.iter().enumerate().filter(|(n, _)| bits & (1 << n) != 0).map(|s| *s.1).collect();
            set.join(",")
        }
    }
}

fn stp(offset: u16) -> &'static str {
    let parts = [
        (6, "--stp-type"),
        (7, "--stp-flags"),
        (8, "--stp-root-pri"),
        (10, "--stp-root-addr"),
        (16, "--stp-root-cost"),
        (20, "--stp-sender-prio"),
        (22, "--stp-sender-addr"),
        (28, "--stp-port"),
        (30, "--stp-msg-age"),
        (32, "--stp-max-age"),
        (34, "--stp-hello-time"),
        (36, "--stp-forward-delay"),
    ];
    parts.iter().find(|p| p.0 == offset).unwrap().1
}

fn arp(offset: u16) -> &'static str {
    let parts = [
        (0, "--arp-htype"),
        (2, "--arp-ptype"),
        (6, "--arp-opcode"),
        (8, "--arp-mac-src"),
        (14, "--arp-ip-src"),
        (18, "--arp-mac-dst"),
        (24, "--arp-ip-dst"),
    ];
    parts.iter().find(|p| p.0 == offset).unwrap().1
}

fn value(m: &Match) -> String {
    match &m.test {
        Test::Number(n) => n.to_string(),
        Test::Range(a, b) => format!("{a}:{b}"),
        Test::Mac(mac, mask) if mask.0 == [0xff; 6] => mac.to_string(),
        Test::Mac(mac, mask) => format!("{mac}/{mask}"),
        Test::Net(a, prefix) => format!("{a}/{prefix}"),
        Test::Addresses(a, b) => format!("{a}-{b}"),
        Test::Bits(mask, flags) => format!("{} {}", names(&TCP_FLAGS, *mask), names(&TCP_FLAGS, *flags)),
        Test::States(bits) => names(&STATES, *bits),
        Test::Is(answer) => if *answer { "Reply" } else { "Original" }.into(),
        Test::Above(n) => n.to_string(),
        Test::InSet(name, sides) => {
            let sides: Vec<_> = sides.iter().map(|s| if *s { "src" } else { "dst" }).collect();
            format!("{name} {}", sides.join(","))
        }
    }
}

fn ours(c: &Compiled) -> Vec<String> {
    let mut out = Vec::new();
    let link = c.layer == Layer::Link;
    let mut icmp: BTreeMap<u8, String> = BTreeMap::new();
    for m in &c.matches {
        let flag = match m.field {
            Field::EtherType if !link => continue,
            Field::IpProtocol if !link => continue,
            Field::EtherType | Field::IpProtocol => "-p",
            Field::EtherSource if link => "-s",
            Field::EtherSource => "--mac-source",
            Field::EtherTarget => "-d",
            Field::VlanId => "--vlan-id",
            Field::VlanType => "--vlan-encap",
            Field::Stp(offset, _) => stp(offset),
            Field::Arp(offset, _) => arp(offset),
            Field::IpSource if matches!(m.test, Test::Addresses(..)) => "--src-range",
            Field::IpTarget if matches!(m.test, Test::Addresses(..)) => "--dst-range",
            Field::IpSource => "--source",
            Field::IpTarget => "--destination",
            Field::Dscp => "--dscp",
            Field::SourcePort => "--sport",
            Field::TargetPort => "--dport",
            Field::IcmpType => {
                icmp.insert(0, value(m));
                continue;
            }
            Field::IcmpCode => {
                icmp.insert(1, value(m));
                continue;
            }
            Field::TcpFlags => "--tcp-flags",
            Field::State => "--ctstate",
            Field::Answer => "--ctdir",
            Field::Connections => "--connlimit-above",
            Field::Set => "--match-set",
            Field::Gratuitous => "--arp-gratuitous",
        };
        out.push(format!("{}{flag} {}", if m.negated { "! " } else { "" }, value(m)));
    }
    if !icmp.is_empty() {
        out.push(format!("--icmp-type {}", icmp.into_values().collect::<Vec<_>>().join("/")));
    }
    if !link {
        let protocol = c.matches.iter().find(|m| m.field == Field::IpProtocol);
        out.push(format!("-p {}", protocol.map_or("0".into(), value)));
        if let Some(comment) = &c.comment {
            out.push(format!("--comment {comment}"));
        }
    }
    out.push(
        match (c.action, link, c.way) {
            (Action::Accept, true, _) | (Action::Accept, false, Way::In) => "-j ACCEPT",
            (Action::Accept, false, Way::Out) | (Action::Return, ..) => "-j RETURN",
            (Action::Drop, ..) | (Action::Reject, true, _) => "-j DROP",
            (Action::Reject, false, _) => "-j REJECT",
            (Action::Continue, ..) => "-j CONTINUE",
        }
        .into(),
    );
    out.sort();
    out
}

fn number(text: &str) -> String {
    let protocols = [
        ("all", 0),
        ("tcp", 6),
        ("udp", 17),
        ("udplite", 136),
        ("esp", 50),
        ("ah", 51),
        ("icmp", 1),
        ("icmpv6", 58),
        ("igmp", 2),
        ("sctp", 132),
    ];
    if let Some((_, n)) = protocols.iter().find(|p| p.0 == text) {
        return n.to_string();
    }
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).unwrap().to_string(),
        None => text.into(),
    }
}

/// Reads the reference's commands; the chain's name and the rule's conditions.
fn theirs(text: &str) -> Rules {
    let mut rules = Rules::new();
    for command in text.replace("\\\n", " ").lines() {
        let words = words(command);
        let Some(at) = words.iter().position(|w| w == "-A") else { continue };
        let chain = words[at + 1].clone();
        let chain = if let Some(rest) =
            chain.strip_prefix("libvirt-J-vnet0").or(chain.strip_prefix("J-vnet0"))
        {
            format!("out{rest}")
        } else if let Some(rest) = chain.strip_prefix("libvirt-P-vnet0").or(chain.strip_prefix("P-vnet0")) {
            format!("in{rest}")
        } else {
            match chain.as_str() {
                "FJ-vnet0" => "out packets".into(),
                "FP-vnet0" => "in packets".into(),
                _ => continue,
            }
        };
        let mut out = Vec::new();
        let mut rest = words[at + 2..].iter().peekable();
        while let Some(word) = rest.next() {
            let (not, flag) = if word == "!" { ("! ", rest.next().unwrap()) } else { ("", word) };
            if flag == "-m" {
                let what = rest.next().unwrap();
                if let Some(flag) = rest.next_if(|w| *w == "!") {
                    let _ = (what, flag);
                    let (flag, value) = (rest.next().unwrap(), rest.next().unwrap());
                    out.push(format!("! {flag} {value}"));
                }
                continue;
            }
            let mut value = rest.next().unwrap().clone();
            if ["--tcp-flags", "--match-set"].contains(&flag.as_str()) {
                value = format!("{value} {}", rest.next().unwrap());
            }
            let flag = flag.replace("--icmpv6-type", "--icmp-type");
            let value = match flag.as_str() {
                "-p" | "--arp-ptype" | "--arp-htype" => number(&value),
                "-s" | "-d" | "--stp-root-addr" | "--stp-sender-addr" => {
                    value.trim_end_matches("/ff:ff:ff:ff:ff:ff").into()
                }
                // One port is written as a range of one here and there.
                "--sport" | "--dport" => match value.split_once(':') {
                    Some((a, b)) if a == b => a.into(),
                    _ => value,
                },
                _ => value,
            };
            // A jump to another chain is no rule.
            out.push(format!("{not}{flag} {value}"));
        }
        out.sort();
        if out.iter().any(|c| c.starts_with("-j J-") || c.starts_with("-j P-") || c.contains("-j libvirt-")) {
            continue;
        }
        rules.entry(chain).or_default().push(out);
    }
    rules
}

fn words(line: &str) -> Vec<String> {
    let (mut out, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    out.push(word);
    out.retain(|w| !w.is_empty());
    out
}

fn made(filter: Filter) -> Rules {
    let mut parameters = Parameters::default();
    parameters.add("IPSETNAME", "tck_test");
    parameters.add("A", "1.1.1.1");
    let filter = Arc::new(filter);
    let find = |name: &str| (name == filter.name).then(|| filter.clone());
    let mut rules = Rules::new();
    for placed in collect(&filter.name, &parameters, &find).unwrap() {
        let body = placed.rule.body.as_ref();
        let bodies = body
            .map_or(vec![None], |b| expand(b, &placed.parameters).unwrap().into_iter().map(Some).collect());
        for body in bodies {
            for c in compile(&placed.rule, body.as_ref()).unwrap() {
                let way = if c.way == Way::Out { "out" } else { "in" };
                let chain = match (&placed.chain, c.layer == Layer::Link) {
                    (_, false) => format!("{way} packets"),
                    (Chain::Root, true) => way.to_string(),
                    (Chain::Named { name, .. }, true) => format!("{way}-{name}"),
                };
                rules.entry(chain).or_default().push(ours(&c));
            }
        }
    }
    rules
}

#[test]
fn recorded_rules() {
    let Some(dir) = std::env::var_os("VIRT_CONFORMANCE") else {
        println!("skipped: VIRT_CONFORMANCE is not set");
        return;
    };
    let (mut count, mut wrong) = (0, Vec::new());
    for file in std::fs::read_dir(std::path::Path::new(&dir).join("cases/nwfilter-firewall"))
        .expect("cases")
        .flatten()
    {
        let path = file.path().to_string_lossy().to_string();
        let Some(stem) = path.strip_suffix(".in.xml") else { continue };
        let Ok(want) = std::fs::read_to_string(format!("{stem}.linux.args")) else { continue };
        count += 1;
        let (want, got) =
            (theirs(&want), made(Filter::parse(&std::fs::read_to_string(&path).unwrap()).unwrap()));
        for chain in want.keys().chain(got.keys()).collect::<std::collections::BTreeSet<_>>() {
            if want.get(chain) != got.get(chain) {
                wrong.push(format!(
                    "{stem} {chain}:\n  want {:?}\n  got  {:?}",
                    want.get(chain),
                    got.get(chain)
                ));
            }
        }
    }
    assert!(count > 0 && wrong.is_empty(), "{count} cases:\n{}", wrong.join("\n"));
}

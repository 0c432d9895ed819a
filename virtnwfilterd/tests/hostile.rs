//! Words of documents never become rules: what reaches nft are numbers, addresses and names without any sign of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use virt_model::nwfilter::Filter;
use virt_model::nwfilter::binding::Binding;
use virtnwfilterd::rules::card::build;
use virtnwfilterd::rules::nft::{Abilities, Card, Tracking, rebuild, replace};
use virtnwfilterd::rules::plan::collect;

/// Every string of a document except comments, which nft takes as they are.
fn strings(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(s) => out.push(s.clone()),
        Value::Array(all) => all.iter().for_each(|v| strings(v, out)),
        Value::Object(all) => all.iter().filter(|(k, _)| *k != "comment").for_each(|(k, v)| {
            out.push(k.clone());
            strings(v, out);
        }),
        _ => {}
    }
}

fn harmless(document: &Value) -> Result<(), TestCaseError> {
    let mut all = Vec::new();
    strings(document, &mut all);
    for s in all {
        let good = |c: char| c.is_ascii_alphanumeric() || "_.:-|& ".contains(c);
        let maps = ["@link_out", "@link_in", "@net_out", "@net_in", "==", "!="];
        prop_assert!(s.chars().all(good) || maps.contains(&s.as_str()), "{s:?}");
        prop_assert!(!s.contains(' ') || s == "ct count", "{s:?}");
        prop_assert!(!["|", "&"].iter().any(|sign| s.contains(sign) && s != *sign), "{s:?}");
    }
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}

fn card(word: &str, port: &str, tracking: Tracking) -> Option<Card> {
    let w = escape(word);
    let xml = format!(
        "<filter name='{w}' chain='arp{w}'><rule action='drop' direction='inout'><arp comment='{w}' arpsrcipaddr='$IP' opcode='{w}'/></rule></filter>"
    );
    let plain = format!(
        "<filter name='f' chain='arp'><rule action='reject' direction='inout'><arp comment='{w}' arpsrcipaddr='$X'/></rule>\
         <rule action='accept' direction='out'><tcp srcipaddr='$X' srcportstart='$Y' flags='$Z' comment='{w}'/></rule></filter>"
    );
    let filter = Filter::parse(&xml).or_else(|_| Filter::parse(&plain)).ok()?;
    let binding = format!(
        "<filterbinding><owner><name>{w}</name><uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid></owner>\
         <portdev name='{}'/><mac address='52:54:00:00:00:01'/><filterref filter='f'>\
         <parameter name='X' value='{w}'/><parameter name='{w}' value='1.2.3.4'/><parameter name='Y' value='{w}'/>\
         <parameter name='Z' value='SYN/{w}'/><parameter name='IP' value='10.0.0.1'/></filterref></filterbinding>",
        escape(port)
    );
    let binding = Binding::parse(&binding).ok()?;
    let name = filter.name.clone();
    let filter = Arc::new(filter);
    let plan = collect(&name, &binding.filter.parameters, &|n| (n == name).then(|| filter.clone())).ok()?;
    build(&binding.port, &plan, Abilities { tracking, reject: true }).ok()
}

proptest! {
    #[test]
    fn no_word_becomes_a_rule(
        word in "[a-zA-Z0-9@$*{}\\[\\]();:.,/|&!#\"' \n\t\\\\-]{0,14}|\\PC{0,12}|[0-9.]{1,9}",
        port in "[a-z0-9@$*{};\"' .-]{1,16}|vnet[0-9]",
    ) {
        for tracking in [Tracking::Bridge, Tracking::Marks] {
            let abilities = Abilities { tracking, reject: false };
            if let Some(card) = card(&word, &port, tracking) {
                harmless(&rebuild(&[&card], abilities))?;
                harmless(&replace(Some(&card), Some(&card)))?;
            }
            if let Some(card) = card(&word, "vnet0", tracking) {
                harmless(&rebuild(&[&card], abilities))?;
            }
        }
    }
}

#[test]
fn a_plain_word_does_get_through() {
    // Otherwise the property would hold for nothing.
    let card = card("10.1.1.1", "vnet0", Tracking::Bridge);
    assert!(card.is_none(), "no port, no flags");
    let xml = "<filter name='f'><rule action='drop' direction='out'><ip srcipaddr='$IP'/></rule></filter>";
    let filter = Arc::new(Filter::parse(xml).unwrap());
    let mut parameters = virt_model::nwfilter::variable::Parameters::default();
    parameters.add("IP", "10.1.1.1");
    let plan = collect("f", &parameters, &|_| Some(filter.clone())).unwrap();
    let card = build("vnet0", &plan, Abilities { tracking: Tracking::Bridge, reject: true }).unwrap();
    assert!(
        rebuild(&[&card], Abilities { tracking: Tracking::Bridge, reject: true })
            .to_string()
            .contains("10.1.1.1")
    );
}

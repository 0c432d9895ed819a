//! Storage documents: recorded ones come back as the reference writes them, wrong ones are refused in its words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::PathBuf;

use proptest::prelude::*;
use virt_model::Mode;
use virt_model::storage::{Pool, PoolType, Volume};

/// Recorded documents; their tests are skipped without them.
fn cases(suite: &str) -> Vec<(String, String, String)> {
    let Some(dir) = std::env::var_os("VIRT_CONFORMANCE").map(PathBuf::from) else {
        println!("skipped: VIRT_CONFORMANCE names no recordings");
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir.join("cases").join(suite)).expect("recordings") {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if let Some(case) = name.strip_suffix(".in.xml")
            && let Ok(wanted) = std::fs::read_to_string(path.with_file_name(format!("{case}.out.xml")))
        {
            found.push((case.to_string(), std::fs::read_to_string(&path).unwrap(), wanted));
        }
    }
    assert!(!found.is_empty());
    found
}

#[test]
fn recorded_pools_come_back() {
    for (case, given, wanted) in cases("pool") {
        let pool = Pool::parse(&given).unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!(pool.format(Mode::CONFIG).trim(), wanted.trim(), "{case}");
    }
}

#[test]
fn recorded_volumes_come_back() {
    for (case, given, wanted) in cases("volume-xml") {
        let kind = match case.as_str() {
            c if c.contains("gluster") => PoolType::Gluster,
            c if c.contains("logical") => PoolType::Logical,
            c if c.contains("partition") => PoolType::Disk,
            _ => PoolType::Dir,
        };
        let volume = Volume::parse(&given, kind, false).unwrap_or_else(|e| panic!("{case}: {e}"));
        // An empty <source> in one recording tells nothing.
        let wanted = wanted.replace("  <source>\n  </source>\n", "");
        let mut volume = volume;
        volume.kind.get_or_insert_default();
        volume.source = None;
        assert_eq!(volume.format().trim(), wanted.trim(), "{case}");
    }
}

fn refusal(xml: &str) -> (i32, String) {
    let error = Pool::parse(xml).unwrap_err();
    (error.code() as i32, error.message())
}

#[test]
fn pools_are_refused_in_the_references_words() {
    let cases = [
        ("<pool type='foo'/>", 27, "XML error: Invalid value for attribute 'type' in element 'pool': 'foo'."),
        ("<pool/>", 27, "XML error: Missing required attribute 'type' in element 'pool'"),
        ("<pool type='dir'/>", 27, "XML error: missing pool source name element"),
        ("<pool type='dir'><name>p</name></pool>", 27, "XML error: missing storage pool target path"),
        ("<pool type='dir'><name>a/b</name></pool>", 27, "XML error: name a/b cannot contain '/'"),
        ("<pool type='dir'><name>p</name><uuid>z</uuid></pool>", 27, "XML error: malformed uuid element"),
        (
            "<pool type='fs'><name>p</name><source><device path='/d'/><format type='foo'/></source></pool>",
            67,
            "unsupported configuration: unknown pool format type foo",
        ),
        ("<pool type='fs'><name>p</name></pool>", 27, "XML error: missing storage pool source device name"),
        ("<pool type='netfs'><name>p</name></pool>", 27, "XML error: missing storage pool source host name"),
        (
            "<pool type='iscsi-direct'><name>p</name><source><host name='h'/><device path='d'/></source></pool>",
            67,
            "unsupported configuration: missing initiator IQN",
        ),
        (
            "<pool type='dir'><name>p</name><target><path>/x</path><permissions><mode>09</mode></permissions></target></pool>",
            27,
            "XML error: malformed octal mode",
        ),
        (
            "<pool type='dir'><name>p</name><target><path>/x</path><permissions><owner/></permissions></target></pool>",
            27,
            "XML error: malformed owner element",
        ),
        (
            "<pool type='mpath'><name>p</name><features><cow state='yes'/></features></pool>",
            3,
            "this function is not supported by the connection driver: cow feature may only be used for 'fs' and \
             'dir' pools",
        ),
        (
            "<pool type='scsi'><name>p</name><source><adapter type='fc_host' wwnn='0x1' wwpn='1'/></source>\
             <target><path>/x</path></target></pool>",
            1,
            "internal error: Malformed wwn: 0x1",
        ),
    ];
    for (xml, code, text) in cases {
        assert_eq!(refusal(xml), (code, text.to_string()), "{xml}");
    }
}

#[test]
fn volumes_are_refused_in_the_references_words() {
    let cases = [
        ("<volume><name>a</name></volume>", 27, "XML error: missing capacity element"),
        ("<volume><capacity>1</capacity></volume>", 27, "XML error: missing volume name element"),
        (
            "<volume><name>a</name><capacity unit='foo'>1</capacity></volume>",
            8,
            "invalid argument: unknown suffix 'foo'",
        ),
        (
            "<volume><name>a</name><capacity>z</capacity></volume>",
            27,
            "XML error: malformed capacity element",
        ),
        (
            "<volume><name>a</name><capacity unit='E'>99</capacity></volume>",
            82,
            "numerical overflow: value too large: 99E",
        ),
        (
            "<volume><name>a</name><capacity>1</capacity><target><format type='foo'/></target></volume>",
            67,
            "unsupported configuration: unknown volume format type foo",
        ),
    ];
    for (xml, code, text) in cases {
        let error = Volume::parse(xml, PoolType::Dir, false).unwrap_err();
        assert_eq!((error.code() as i32, error.message()), (code, text.to_string()), "{xml}");
    }
}

proptest! {
    /// What was read and written is read again as the same.
    #[test]
    fn a_written_pool_is_read_back(name in "[a-z<&' ]{1,12}", path in "/[a-z/<&']{0,20}", mode in 0_u32..0o777) {
        prop_assume!(!name.trim().is_empty());
        let escape = |t: &str| t.replace('&', "&amp;").replace('<', "&lt;");
        let xml = format!(
            "<pool type='dir'><name>{}</name><uuid>53b0b821-7630-4be7-a3d4-b65d353f2e25</uuid><target><path>{}</path>\
             <permissions><mode>{mode:o}</mode></permissions></target></pool>",
            escape(&name), escape(&path)
        );
        let pool = Pool::parse(&xml).unwrap();
        let text = pool.format(Mode::CONFIG);
        prop_assert_eq!(&Pool::parse(&text).unwrap(), &pool);
    }
}

//! Secret documents: recorded cases of the reference (`VIRT_CONFORMANCE` names their folder) and its refusals.
#![allow(clippy::expect_used)] // A test's helpers may fail loudly.

use std::path::Path;

use virt_model::secret::Secret;

#[test]
fn recorded_documents_come_back() {
    let Ok(folder) = std::env::var("VIRT_CONFORMANCE") else {
        println!("skipped: VIRT_CONFORMANCE does not name the folder with the reference's recordings");
        return;
    };
    let mut count = 0;
    for entry in std::fs::read_dir(Path::new(&folder).join("cases/secret")).expect("the cases").flatten() {
        let path = entry.path().to_string_lossy().into_owned();
        let Some(stem) = path.strip_suffix(".in.xml") else { continue };
        let read = |suffix: &str| std::fs::read_to_string(format!("{stem}.{suffix}")).expect("a case");
        let secret = Secret::parse(&read("in.xml")).expect(stem);
        assert_eq!(secret.format(), read("out.xml"), "{stem}");
        count += 1;
    }
    assert!(count > 0, "no cases in {folder}");
}

#[test]
fn what_was_not_said_is_filled_in_or_left_out() {
    let secret = Secret::parse(
        "<secret><description></description><usage type='none'><name>x</name></usage><other/></secret>",
    )
    .expect("a document");
    assert_eq!(secret.format(), "<secret ephemeral='no' private='no'/>\n");
    let secret = Secret::parse(
        "<secret private='yes'><usage type='iscsi'><name>n</name><target>t</target></usage></secret>",
    )
    .expect("a document");
    assert!(secret.private && !secret.format().contains("<name>"));
}

#[test]
fn refusals_are_the_references() {
    let usage = |inner: &str| format!("<secret>{inner}</secret>");
    for (xml, code, text) in [
        ("<secret ephemeral='maybe'/>".into(), 27, "XML error: invalid value of 'ephemeral'"),
        ("<secret private='1'/>".into(), 27, "XML error: invalid value of 'private'"),
        (usage("<uuid>bad</uuid>"), 1, "internal error: malformed uuid element"),
        (usage("<usage/>"), 27, "XML error: Missing required attribute 'type' in element 'usage'"),
        (
            usage("<usage type='x'/>"),
            27,
            "XML error: Invalid value for attribute 'type' in element 'usage': 'x'.",
        ),
        (
            usage("<usage type='volume'><name>n</name></usage>"),
            1,
            "internal error: volume usage specified, but volume path is missing",
        ),
        (usage("<usage type='vtpm'/>"), 1, "internal error: vTPM usage specified, but name is missing"),
        ("<secre/>".into(), 27, "XML error: expecting root element of 'secret', not 'secre'"),
    ] {
        let error = Secret::parse(&xml).expect_err(&xml);
        assert_eq!((error.code() as i32, error.message().as_str()), (code, text), "{xml}");
    }
}

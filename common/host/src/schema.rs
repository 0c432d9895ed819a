//! Documents held against the schemas that libvirt publishes (RelaxNG), by libxml2's `xmllint`.
//!
//! The files are the host's own, where libvirt's packages put them; they are read in place.

use std::path::Path;
use std::time::Duration;

use virt_error::{Code, Domain, Error, Result};
use virt_object::blocking;

use crate::tool::{HostTools, Run, Tools};

/// Where libvirt's packages install the schemas.
const FOLDER: &str = "/usr/share/libvirt/schemas";
/// The longest a document may take: the largest schema and a usual document take 10 ms.
const DEADLINE: Duration = Duration::from_secs(10);
/// xmllint(1): the document does not validate.
const INVALID: i32 = 3;
/// xmllint(1): the document is no XML. What is wrong with it is for the parser to say.
const UNREADABLE: i32 = 1;
/// What xmllint writes between the place of a fault and its text.
const FAULT: &str = "Relax-NG validity error : ";

/// A kind of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Schema {
    Domain,
    Interface,
    Network,
    NetworkPort,
    Nwfilter,
    NwfilterBinding,
    Secret,
    StoragePool,
    StorageVolume,
}

impl Schema {
    fn file(self) -> &'static str {
        match self {
            Self::Domain => "domain.rng",
            Self::Interface => "interface.rng",
            Self::Network => "network.rng",
            Self::NetworkPort => "networkport.rng",
            Self::Nwfilter => "nwfilter.rng",
            Self::NwfilterBinding => "nwfilterbinding.rng",
            Self::Secret => "secret.rng",
            Self::StoragePool => "storagepool.rng",
            Self::StorageVolume => "storagevol.rng",
        }
    }
}

/// Holds a document against its schema if `asked`. A document that is no XML passes: its reader refuses it.
///
/// # Errors
/// Code 92 with what does not fit; code 74 naming what is missing on this host; code 68 when it takes too long.
pub async fn check(asked: bool, schema: Schema, domain: Domain, text: &str) -> Result<()> {
    if !asked {
        return Ok(());
    }
    let text = text.to_string();
    blocking::run(move || check_with(&HostTools, Path::new(FOLDER), schema, domain, text)).await
}

fn check_with(tools: &dyn Tools, folder: &Path, schema: Schema, domain: Domain, text: String) -> Result<()> {
    let file = folder.join(schema.file());
    if !file.is_file() {
        return Err(not_here(domain, &format!("{} is not installed", file.display())));
    }
    if tools.find("xmllint").is_none() {
        return Err(not_here(domain, "xmllint is not installed"));
    }
    let run = Run::new("xmllint", domain)
        .args(["--noout", "--nonet", "--relaxng"])
        .arg(&file)
        .arg("-")
        .deadline(DEADLINE)
        .also_ok(&[INVALID, UNREADABLE]);
    let output = tools.run(&Run { input: text.into_bytes(), ..run })?;
    if output.status != INVALID {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.err);
    let faults: String =
        said.lines().filter_map(|l| l.split_once(FAULT)).map(|(_, fault)| format!("{fault}\n")).collect();
    let text = format!("Unable to validate doc against {}\n{faults}", file.display());
    Err(Error::new(Code::XmlInvalidSchema, Domain::Xml, text))
}

fn not_here(domain: Domain, what: &str) -> Error {
    Error::new(Code::ArgumentUnsupported, domain, format!("the document cannot be validated: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::Output;
    use std::path::PathBuf;

    const SCHEMA: &str = r#"<element name="network" xmlns="http://relaxng.org/ns/structure/1.0">
        <element name="name"><text/></element></element>"#;

    /// Answers what a recorded xmllint did.
    struct Recorded(Option<Output>);

    impl Tools for Recorded {
        fn find(&self, program: &str) -> Option<PathBuf> {
            self.0.as_ref().map(|_| Path::new("/usr/bin").join(program))
        }

        fn run(&self, run: &Run) -> Result<Output> {
            assert!(run.args.iter().any(|a| a.to_string_lossy().ends_with("/network.rng")), "{run:?}");
            assert_eq!(run.input, b"<network/>");
            Ok(self.0.clone().unwrap_or_default())
        }
    }

    fn check(tools: &Recorded) -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("network.rng"), SCHEMA).unwrap();
        check_with(tools, dir.path(), Schema::Network, Domain::Network, "<network/>".into())
    }

    #[test]
    fn faults_are_told_without_their_place() {
        let err = "-:1: element foo: Relax-NG validity error : Element network has extra content: foo\n\
                   - fails to validate\n";
        let tools = Recorded(Some(Output { status: 3, err: err.into(), ..Output::default() }));
        let error = check(&tools).unwrap_err();
        assert_eq!(error.code(), Code::XmlInvalidSchema);
        let text = error.message().to_string();
        let (head, faults) = text.split_once('\n').unwrap();
        assert!(head.starts_with("XML document failed to validate against schema: Unable to validate doc"));
        assert_eq!(faults, "Element network has extra content: foo\n");
    }

    #[test]
    fn what_is_no_xml_is_left_to_the_reader() {
        assert!(check(&Recorded(Some(Output { status: 1, ..Output::default() }))).is_ok());
        assert!(check(&Recorded(Some(Output::default()))).is_ok());
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = check(&Recorded(None)).unwrap_err();
        assert_eq!(error.code(), Code::ArgumentUnsupported);
        assert!(error.message().contains("xmllint is not installed"), "{error}");
        let nowhere = Path::new("/nonexistent");
        let error =
            check_with(&Recorded(None), nowhere, Schema::Secret, Domain::Secret, String::new()).unwrap_err();
        assert!(error.message().contains("/nonexistent/secret.rng is not installed"), "{error}");
    }

    #[test]
    fn the_hosts_own_xmllint_is_understood() {
        if HostTools.find("xmllint").is_none() {
            return eprintln!("skipped: xmllint is not installed");
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("network.rng"), SCHEMA).unwrap();
        let check =
            |text: &str| check_with(&HostTools, dir.path(), Schema::Network, Domain::Network, text.into());
        assert!(check("<network><name>a</name></network>").is_ok());
        assert!(check("<network").is_ok(), "its reader refuses it");
        let error = check("<network><name>a</name><foo/></network>").unwrap_err();
        assert_eq!(error.code(), Code::XmlInvalidSchema);
        // The words differ between releases of libxml2.
        let text = error.message().to_string();
        assert!(text.lines().count() > 1 && text.contains("foo"), "{text}");
    }
}

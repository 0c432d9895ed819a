//! Passwords of iSCSI logins. iscsiadm takes one only as an argument, which every user of the host could read: so its own
//! record of the target is written instead, as iscsiadm writes it.

use std::fs;
use std::path::{Path, PathBuf};

use virt_error::{Code, Domain, Error, Result};
use virt_object::store::write_whole;
use virt_secret::Value;
use zeroize::Zeroizing;

use super::failed;

/// Where iscsiadm keeps its records; the place depends on the distribution.
pub const RECORDS: [&str; 2] = ["/etc/iscsi/nodes", "/var/lib/iscsi/nodes"];
/// The field.
const FIELD: &str = "node.session.auth.password";
/// The last line of a record.
const END: &str = "# END RECORD";

/// Puts the password into all records of a target.
///
/// # Errors
/// Code 1 when the target has no record, code 8 for a password that no record can hold, code 38.
pub fn set_password(folders: &[&Path], target: &str, password: &Value) -> Result<()> {
    let text = std::str::from_utf8(password.bytes()).ok().filter(|t| !t.contains(char::is_control));
    let unfit = || Error::new(Code::InvalidArg, Domain::Storage, "the secret is no password for iSCSI");
    let text = text.ok_or_else(unfit)?;
    let mut found = false;
    for record in folders.iter().flat_map(|folder| records(&folder.join(target))) {
        let old = Zeroizing::new(fs::read_to_string(&record).map_err(failed("cannot read file", &record))?);
        let new = with_password(&old, text);
        write_whole(&record, &[new.as_bytes()], true).map_err(failed("cannot write file", &record))?;
        found = true;
    }
    match found {
        true => Ok(()),
        false => Err(Error::internal(Domain::Storage, format!("no record of iSCSI target '{target}'"))),
    }
}

/// A target's records: a file a portal, or in newer versions a folder a portal with a file an interface.
fn records(target: &Path) -> Vec<PathBuf> {
    let inside = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
    };
    let portals = inside(target).into_iter();
    portals.flat_map(|p| if p.is_dir() { inside(&p) } else { vec![p] }).filter(|p| p.is_file()).collect()
}

fn with_password(record: &str, password: &str) -> Zeroizing<String> {
    // Room for all, so that no half of it stays behind in memory.
    let mut new = Zeroizing::new(String::with_capacity(record.len() + password.len() + 64));
    let mut put = |line: &str| {
        new.push_str(line);
        new.push('\n');
    };
    let field = Zeroizing::new(format!("{FIELD} = {password}"));
    let own = |line: &&str| line.split('=').next().is_some_and(|name| name.trim() == FIELD);
    let mut written = false;
    for line in record.lines().filter(|line| !own(line)) {
        if line.trim() == END && !written {
            put(&field);
            written = true;
        }
        put(line);
    }
    if !written {
        put(&field);
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_password_is_in_every_record_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) =
            (dir.path().join("iqn.a/10.0.0.1,3260"), dir.path().join("iqn.a/10.0.0.2,3260,1/default"));
        fs::create_dir_all(new.parent().unwrap()).unwrap();
        let record = "# BEGIN RECORD 2.1\nnode.name = iqn.a\nnode.session.auth.password = x\n# END RECORD\n";
        for path in [&old, &new] {
            fs::write(path, record).unwrap();
        }
        for password in ["first", "s3cret = 1"] {
            let value = Value::new(password.as_bytes().to_vec());
            set_password(&[dir.path(), Path::new("/nowhere")], "iqn.a", &value).unwrap();
        }
        for path in [&old, &new] {
            let wanted = record.replace("password = x", "password = s3cret = 1");
            assert_eq!(fs::read_to_string(path).unwrap(), wanted);
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o77, 0);
        }
        let bad = Value::new(b"two\nlines".to_vec());
        assert_eq!(set_password(&[dir.path()], "iqn.a", &bad).unwrap_err().code(), Code::InvalidArg);
        let none = set_password(&[dir.path()], "iqn.b", &Value::new(b"x".to_vec())).unwrap_err();
        assert!(none.message().contains("iqn.b"));
    }
}

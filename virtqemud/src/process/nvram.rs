//! The variables of a guest's firmware: made from their template when they are not there, or made anew on request.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::os::Os;
use virt_model::domain::source::DiskSource;
use virt_object::undo::Undo;

use super::dac::Owner;

/// The guest's own file of variables on this host.
pub fn path(os: &Os) -> Option<PathBuf> {
    let nvram = os.nvram.as_ref()?;
    let file = match &nvram.source {
        Some(DiskSource::File(image)) => image.file.as_deref(),
        Some(_) => None,
        None => nvram.path.as_deref(),
    };
    file.map(Into::into)
}

/// Makes the file for a guest that is being started; `reset` makes it anew. Blocking.
///
/// # Errors
/// Code 9 when nothing tells the template; code 38 when it cannot be read or the file not be written; code 67 for a format
/// that the template does not have.
pub fn prepare(live: &Domain, owner: Option<Owner>, reset: bool, undo: &mut Undo) -> Result<()> {
    let Some(path) = path(&live.os) else { return Ok(()) };
    let there = fs::symlink_metadata(&path).is_ok();
    if there && !reset {
        return Ok(());
    }
    let Some(nvram) = &live.os.nvram else { return Ok(()) };
    let loader = live.os.loader.as_ref().and_then(|l| l.path.as_deref()).unwrap_or_default();
    let Some(template) = nvram.template.as_deref() else {
        let text = format!("unable to find any master var store for loader: {loader}");
        return Err(Error::new(Code::OperationFailed, From::Qemu, text));
    };
    if nvram.template_format.is_some_and(|f| nvram.format.is_some_and(|own| own != f)) {
        let text = "conversion of the nvram template to another target format is not supported";
        return Err(Error::new(Code::ConfigUnsupported, From::Qemu, text));
    }
    let mut from = open(Path::new(template))
        .map_err(|e| Error::system(From::Qemu, format!("Failed to open file '{template}'"), e))?;
    let failed = |e| Error::system(From::Qemu, format!("Failed to create file '{}'", path.display()), e);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    copy(&mut from, &path, owner).map_err(failed)?;
    if !there {
        let made = path.clone();
        undo.add("variables of the firmware", move || match fs::remove_file(&made) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::system(From::Qemu, format!("cannot remove '{}'", made.display()), e))
            }
            _ => Ok(()),
        });
    }
    Ok(())
}

/// A regular file; a named pipe would wait for a writer.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(rustix::io::Errno::INVAL.into()) }
}

/// Whole or not at all: a start that dies in the middle leaves no half variables under the name.
fn copy(from: &mut File, to: &Path, owner: Option<Owner>) -> io::Result<()> {
    let mut temp = to.as_os_str().to_owned();
    temp.push(".new");
    let temp = PathBuf::from(temp);
    let made = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
        io::copy(from, &mut file)?;
        if let Some(Owner { uid, gid }) = owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        file.sync_all()?;
        fs::rename(&temp, to)
    })();
    made.inspect_err(|_| drop(fs::remove_file(&temp)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_model::domain::os::{Loader, Nvram};

    fn guest(template: Option<&Path>, to: &Path) -> Domain {
        let mut guest = Domain::default();
        guest.os.loader = Some(Loader { path: Some("/code.fd".into()), ..Loader::default() });
        guest.os.nvram = Some(Nvram {
            template: template.map(|t| t.display().to_string()),
            path: Some(to.display().to_string()),
            ..Nvram::default()
        });
        guest
    }

    #[test]
    fn variables_come_from_the_template_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let (template, own) = (dir.path().join("template"), dir.path().join("new/own.fd"));
        let live = guest(Some(&template), &own);
        let start = |reset| {
            let mut undo = Undo::new("test");
            let done = prepare(&live, None, reset, &mut undo).map_err(|e| e.message());
            let steps = undo.len();
            undo.disarm();
            done.map(|()| steps)
        };
        let text = format!("Failed to open file '{}': No such file or directory", template.display());
        assert_eq!(start(false), Err(text));
        fs::write(&template, "first").expect("written");
        assert_eq!(start(false), Ok(1), "a failed start takes it away again");
        fs::write(&own, "own").expect("written");
        assert_eq!(start(false), Ok(0));
        assert_eq!(fs::read_to_string(&own).expect("read"), "own");
        assert_eq!(start(true), Ok(0));
        assert_eq!(fs::read_to_string(&own).expect("read"), "first");
        assert_eq!(fs::read_dir(dir.path().join("new")).expect("a folder").count(), 1);
    }

    #[test]
    fn without_a_template_nothing_is_made() {
        let dir = tempfile::tempdir().expect("a folder");
        let live = guest(None, &dir.path().join("own.fd"));
        let mut undo = Undo::new("test");
        let error = prepare(&live, None, false, &mut undo).expect_err("no template");
        let text = "operation failed: unable to find any master var store for loader: /code.fd";
        assert_eq!(error.message(), text);
        // A folder is no template.
        let live = guest(Some(dir.path()), &dir.path().join("own.fd"));
        assert!(prepare(&live, None, false, &mut undo).is_err() && undo.is_empty());
    }
}

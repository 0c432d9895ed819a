//! No name leads out of a pool's folder, whatever is done with it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use virt_host::tool::{Cancel, HostTools};
use virt_model::storage::volume::Bytes;
use virt_model::storage::{Pool, PoolType, Volume as Document};

use crate::backend::dir::Dir;
use crate::backend::{Backend, Create, Cx, Resize, Source};
use crate::keys::NoKeys;
use crate::volume::Volume;
use crate::volume::create::How;

/// What everything in a folder and below is and holds; links are not followed.
fn tree(dir: &Path) -> BTreeMap<std::path::PathBuf, (u32, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            all.extend(tree(&path));
        }
        let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        // The time of a folder tells of names that came and went in it.
        all.insert(path, (meta.mode(), meta.mtime_nsec(), content));
    }
    all
}

fn pool(dir: &Path) -> Pool {
    let xml =
        format!("<pool type='dir'><name>p</name><target><path>{}</path></target></pool>", dir.display());
    Pool::parse(&xml).unwrap()
}

fn document(pool: &Path, name: &str) -> Document {
    let mut document = Document {
        name: Some(name.into()),
        capacity: Some(Bytes(8192)),
        allocation: Some(Bytes(4096)),
        ..Document::default()
    };
    document.target.path = Some(format!("{}/{name}", pool.display()));
    document
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn nothing_outside_is_read_written_or_deleted(
        name in prop_oneof![
            prop::sample::select(vec![
                "..", ".", "", "../x", "../out/secret", "/etc/passwd", "out-link", "out-link/secret", "dir-link",
                "dir-link/secret", "up-link", "up-link/x", "in-link", "dangling", "a", "sub", "sub/../../x", "-x",
                "--help", "-", "--", "-o", "a,size=1", "json:{}", "nbd:host", "file:../x", "a b", "\u{202e}x", ".virtd-new.x",
            ]).prop_map(str::to_string),
            "\\PC{0,40}",
            "[./\\-\n\r\0 ~$*]{0,12}",
            "(\\.\\./){1,4}[a-z]{0,6}",
            "x{250,300}",
        ],
        new in "(\\.\\./){0,2}[-a-z]{1,4}",
        format in prop::sample::select(vec!["raw", "dir"]),
    ) {
        let home = tempfile::tempdir().unwrap();
        let (dir, out) = (home.path().join("pool"), home.path().join("out"));
        fs::create_dir(&dir).unwrap();
        fs::create_dir(&out).unwrap();
        fs::write(out.join("secret"), b"secret of the host").unwrap();
        fs::write(dir.join("a"), vec![1; 4096]).unwrap();
        fs::create_dir(dir.join("sub")).unwrap();
        for (to, link) in [
            ("../out/secret", "out-link"), ("../out", "dir-link"), ("..", "up-link"), ("a", "in-link"),
            ("../out/new", "dangling"),
        ] {
            symlink(to, dir.join(link)).unwrap();
        }
        let before = tree(&out);
        let (tools, backend, pool) = (HostTools, Dir, pool(&dir));
        let cx = Cx::new(&tools, &NoKeys, Cancel::default());
        let volume = Volume::new(document(&dir, &name));
        // Reading and writing.
        if let Ok(content) = backend.content(&pool, &volume) {
            prop_assert!(content.starts_with(dir.canonicalize().unwrap()), "{:?}", content);
        }
        let wanted = Resize { capacity: 20_000, shrink: false, allocate: false };
        let _ = backend.resize(&cx, &pool, &volume, wanted);
        // Making: empty, and as a copy.
        let mut asked = document(&dir, &new);
        asked.target.format = Some(format.into());
        let source = Source { kind: PoolType::Dir, volume: volume.clone().into() };
        for (wanted, from) in [(asked, Some(&source)), (document(&dir, &name), None)] {
            if backend.place(&pool, wanted.name()).is_ok() {
                let create = Create { wanted: &wanted, how: How::default(), from };
                let _ = backend.create(&cx, &pool, &create);
            }
        }
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let plain = fs::symlink_metadata(&path).unwrap().is_file();
            prop_assert!(!plain || !fs::read(&path).unwrap().starts_with(b"secret"), "{:?}", path);
        }
        let _ = backend.delete_volume(&cx, &pool, &volume, 0);
        for found in backend.refresh(&cx, &pool).unwrap().volumes {
            prop_assert_eq!(Path::new(found.path()).parent(), Some(dir.as_path()));
        }
        prop_assert_eq!(before, tree(&out));
        let names: Vec<_> = fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        prop_assert_eq!(names.len(), 2, "{:?}", names);
    }
}

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path().join("qemu"), "virsh edit");
    (dir, store)
}

fn names(store: &Store) -> Vec<String> {
    store.load().unwrap().into_iter().map(|l| l.name).collect()
}

#[test]
fn saves_as_libvirt_does() {
    let (_dir, s) = store();
    assert!(s.load().unwrap().is_empty());
    s.save("a b", "<domain/>\n").unwrap();
    let text = fs::read_to_string(s.path("a b")).unwrap();
    assert!(
        text.starts_with("<!--\n")
            && text.contains("  virsh edit a b\n")
            && text.ends_with("-->\n\n<domain/>\n")
    );
    assert_eq!(fs::metadata(s.path("a b")).unwrap().permissions().mode() & 0o777, 0o600);
    s.set_autostart("a b", true).unwrap();
    s.set_autostart("a b", true).unwrap();
    assert_eq!(fs::read_link(s.autostart_path("a b")).unwrap(), s.path("a b"));
    assert!(s.load().unwrap()[0].autostart);
    s.remove("a b").unwrap();
    s.remove("a b").unwrap();
    assert!(names(&s).is_empty() && !s.autostart("a b"));
}

#[test]
fn no_name_breaks_the_comment() {
    for name in ["a--b", "-->", "a-", "-"] {
        let head = head("virsh edit", name);
        let inner = head.trim().strip_prefix("<!--").unwrap().strip_suffix("-->").unwrap();
        assert!(!inner.contains("--") && !inner.ends_with('-'), "{head}");
    }
}

#[test]
fn a_name_that_is_too_long_reads_as_the_references() {
    let (_dir, s) = store();
    let name = "a".repeat(250);
    let error = s.save(&name, "").unwrap_err();
    let temp = s.dir.join(format!("{name}.xml.new"));
    assert_eq!(error.message(), format!("Failed to create file '{}': File name too long", temp.display()));
    assert_eq!((error.code() as i32, error.domain() as i32, error.errno()), (38, 0, 36));
}

#[test]
fn one_bad_file_does_not_stop_the_others() {
    let (_dir, s) = store();
    s.save("good", "<a/>").unwrap();
    fs::write(s.path("bad"), [0xff, 0xfe]).unwrap();
    fs::create_dir(s.path("folder")).unwrap();
    fs::write(s.dir.join("half.xml.new"), "half").unwrap();
    fs::write(s.path("stump"), "").unwrap();
    fs::write(s.dir.join("notes.txt"), "").unwrap();
    let loaded = s.load().unwrap();
    let ok: Vec<_> = loaded.iter().map(|l| (l.name.as_str(), l.text.is_ok())).collect();
    assert_eq!(ok, [("bad", false), ("folder", false), ("good", true)]);
    assert!(!s.dir.join("half.xml.new").exists() && !s.path("stump").exists());
    assert!(s.dir.join("notes.txt").exists() && s.path("bad").exists());
}

#[test]
fn a_rename_moves_file_and_link() {
    let (_dir, s) = store();
    s.save("old", "<old/>").unwrap();
    s.set_autostart("old", true).unwrap();
    s.rename("old", "new", "<new/>").unwrap();
    assert_eq!(names(&s), ["new"]);
    assert!(s.autostart("new") && !s.autostart("old"));
    assert!(fs::read_dir(&s.dir).unwrap().count() == 2, "file and autostart folder only");
}

#[test]
fn a_rename_to_a_name_too_long_says_so_and_leaves_the_old_one() {
    let (_dir, s) = store();
    s.save("old", "<old/>").unwrap();
    let error = s.rename("old", &"n".repeat(300), "<new/>").unwrap_err();
    assert_eq!(error.code(), virt_error::Code::SystemError);
    let text = error.to_string();
    assert!(text.contains("Failed to create file '") && text.ends_with("File name too long"), "{text}");
    assert_eq!(names(&s), ["old"]);
    assert_eq!(fs::read_dir(&s.dir).unwrap().count(), 1, "no marker is left");
}

#[test]
fn a_rename_cut_at_any_step_leaves_one_object() {
    // Step 1 only: the old object stands.
    let (_dir, s) = store();
    s.save("old", "<old/>").unwrap();
    s.set_autostart("old", true).unwrap();
    symlink("new.xml", s.marker("old")).unwrap();
    assert_eq!(names(&s), ["old"]);
    assert!(!s.marker("old").is_symlink());
    // Up to step 2, 3 and in step 4: the new object stands.
    for step in 2..=4 {
        let (_dir, s) = store();
        s.save("old", "<old/>").unwrap();
        s.set_autostart("old", true).unwrap();
        symlink("new.xml", s.marker("old")).unwrap();
        s.save("new", "<new/>").unwrap();
        if step >= 3 {
            s.set_autostart("new", true).unwrap();
        }
        if step >= 4 {
            s.remove("old").unwrap();
        }
        assert_eq!(names(&s), ["new"], "step {step}");
        assert!(s.autostart("new") && !s.autostart("old") && !s.marker("old").is_symlink());
    }
    // A marker that points elsewhere is only dropped.
    let (_dir, s) = store();
    s.save("old", "<old/>").unwrap();
    symlink("/etc/passwd", s.marker("old")).unwrap();
    assert_eq!(names(&s), ["old"]);
}

#[test]
fn callers_at_the_same_time_all_get_their_files() {
    let (_dir, s) = store();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for t in 0..4 {
            let s = &s;
            scope.spawn(move || {
                for n in 0..25 {
                    s.save(&format!("g{t}-{n}"), "<a/>").unwrap();
                }
            });
        }
    });
    assert_eq!(names(&s).len(), 100);
    eprintln!("100 saves by 4 threads: {:?}", start.elapsed());
}

#[test]
fn a_full_disk_keeps_the_old_file() {
    // /dev/full refuses every write, as a full disk does.
    let (_dir, s) = store();
    s.save("a", "<old/>").unwrap();
    symlink("/dev/full", s.dir.join("a.xml.new")).unwrap();
    let error = s.save("a", &"x".repeat(100_000)).unwrap_err();
    assert!(error.message().ends_with("No space left on device"), "{error}");
    assert!(fs::read_to_string(s.path("a")).unwrap().ends_with("<old/>"));
    assert!(!s.dir.join("a.xml.new").is_symlink());
}

#[test]
fn a_crash_in_the_middle_of_a_removal_leaves_nothing() {
    let (_dir, s) = store();
    for name in ["stays", "goes"] {
        s.save(name, "<domain/>\n").unwrap();
        s.set_autostart(name, true).unwrap();
    }
    let elsewhere = s.autostart_path("other");
    symlink("/nonexistent/other.xml", &elsewhere).unwrap();
    fs::remove_file(s.path("goes")).unwrap();
    assert_eq!(names(&s), ["stays"]);
    assert!(s.autostart("stays") && !s.autostart("goes") && s.autostart("other"));
}

#[test]
fn a_status_file_that_was_never_whole_is_removed() {
    let (_dir, s) = store();
    s.save("a", "<a/>").unwrap();
    let half = s.dir.join("b.xml.new");
    fs::write(&half, "<b").unwrap();
    let found = load_whole(&s.dir, Domain::Qemu, |path| Ok(path.to_path_buf())).unwrap();
    assert_eq!(found, [s.path("a")]);
    assert!(!half.exists());
}

#[test]
fn links_for_the_next_start_alone() {
    let (_dir, s) = store();
    s.save("a", "<domain/>\n").unwrap();
    s.set_once("a", true).unwrap();
    s.set_once("a", true).unwrap();
    let link = s.dir.join("autostart/a.xml.once");
    assert_eq!(fs::read_link(&link).unwrap(), s.path("a"));
    let flags = |s: &Store| s.load().unwrap().iter().map(|l| (l.autostart, l.once)).collect::<Vec<_>>();
    assert_eq!(flags(&s), [(false, true)]);
    s.rename("a", "b", "<domain/>\n").unwrap();
    assert_eq!(flags(&s), [(false, true)]);
    fs::remove_file(s.path("b")).unwrap();
    assert!(flags(&s).is_empty() && fs::read_dir(s.dir.join("autostart")).unwrap().count() == 0);
}

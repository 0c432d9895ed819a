//! Nothing that a document says becomes an option of a program: every argument of every run is looked at.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;
use virt_consts::VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA;
use virt_error::Result;
use virt_host::tool::{Cancel, Output, Run, Tools};
use virt_model::secret::UsageType;
use virt_model::storage::volume::Bytes;
use virt_model::storage::{Pool, PoolType, Volume as Document};
use virt_secret::Value;

use super::{Backends, Create, Cx, Overwrite, Resize, check_target};
use crate::keys::Keys;
use crate::paths;
use crate::volume::Volume;
use crate::volume::create::How;

/// Stands in everything that a document says, and in nothing else.
const MARK: &str = "ZQ";
/// Options after which comes a value, whatever it begins with; by program.
const VALUES: &[(&str, &[&str])] = &[
    ("iscsiadm", &["--value", "--portal", "--targetname"]),
    ("iscsi-ls", &["-i"]),
    ("iscsi-readcapacity16", &["-i"]),
    ("vstorage-mount", &["-c"]),
    ("lvcreate", &["--name"]),
];

/// A host on which every program is there, says something of its kind, and is only noted.
#[derive(Default)]
struct Noted(Mutex<Vec<Run>>);

impl Tools for Noted {
    fn find(&self, program: &str) -> Option<PathBuf> {
        Some(Path::new("/usr/bin").join(program))
    }

    fn run(&self, run: &Run) -> Result<Output> {
        self.0.lock().unwrap().push(run.clone());
        let text = match run.program {
            "vgs" => r#"{"report":[{"vg":[{"vg_size":"1000","vg_free":"900"}]}]}"#,
            "lvs" => r#"{"report":[{"lv":[]}]}"#,
            "rbd" => "[]",
            "ceph" => "{}",
            "pvs" => r#"{"report":[{"pv":[{"pv_name":"/dev/x","vg_name":"ZQ"}]}]}"#,
            "zpool" => "p\tsize\t10\t-\np\tallocated\t1\t-\np\tfree\t9\t-\n",
            "parted" => "BYT;\n/dev/x:9000000B:scsi:512:512:msdos:x:;\n1:512B:8000000B:7999489B:free;\n",
            _ => "",
        };
        // iscsiadm: there is no session yet. blkid: the device is empty.
        let status = match run.program {
            "iscsiadm" if run.args.iter().any(|arg| arg == "session") => 21,
            "blkid" => 2,
            _ => 0,
        };
        Ok(Output { status, out: text.as_bytes().to_vec(), ..Output::default() })
    }
}

struct AnyKey;

impl Keys for AnyKey {
    fn reveal(&self, _: Option<&Uuid>, _: Option<&str>, _: UsageType) -> Result<Value> {
        Ok(Value::new(b"secret".to_vec()))
    }

    fn of_volumes(&self) -> Result<HashMap<String, Uuid>> {
        Ok(HashMap::new())
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c => out.push(c),
        }
    }
    out
}

/// What a client may write where a name is wanted.
fn odd() -> impl Strategy<Value = String> {
    let known = [
        "ZQ",
        "/dev/ZQ",
        "-oZQ",
        "--ZQ=x",
        "-ZQ",
        "ZQ\n--x",
        "../ZQ",
        "/ZQ/../../etc",
        "ZQ,exec=1",
        "ZQ x",
        "$(ZQ)",
        "ZQ;x",
        "ZQ@s",
        "json:{ZQ}",
        "//ZQ",
        "ZQ\t-o",
        "\u{202e}ZQ",
        "%2dZQ",
        "ZQ'\"",
        "--ZQ\n",
        "-",
        "--",
        "iqn.ZQ:a",
    ];
    prop_oneof![
        3 => prop::sample::select(known.to_vec()).prop_map(str::to_string),
        1 => "[-/.,;:@= \n\t]{0,4}ZQ[-/.,;:@= \n\\PC]{0,6}",
    ]
}

/// A pool's document with all parts that any kind has.
fn document(kind: PoolType, format: &str, parts: &[String; 7], target: &str) -> String {
    let [host, device, dir, name, initiator, user, protocol] = parts.each_ref().map(|p| escaped(p));
    let format = if format.is_empty() { String::new() } else { format!("<format type='{format}'/>") };
    let auth = if kind == PoolType::Rbd { "ceph" } else { "chap" };
    format!(
        "<pool type='{kind}'><name>p</name><source><host name='{host}'/><device path='{device}'/>\
         <dir path='{dir}'/><adapter name='{name}'/><name>{name}</name>\
         <initiator><iqn name='{initiator}'/></initiator>{format}\
         <auth type='{auth}' username='{user}'><secret usage='k'/></auth><protocol ver='{protocol}'/></source>\
         <target><path>{}</path></target></pool>",
        escaped(target)
    )
}

/// Everything that a pool and a volume in it can be asked for.
fn exercise(tools: &Noted, run: &Path, pool: &Pool, (name, base, compat): (&str, &str, &str)) {
    let backends =
        Backends::new(std::sync::Arc::new(Noted::default()), std::sync::Arc::new(AnyKey), run.into());
    let Ok(backend) = backends.of(pool.kind) else { return };
    let cx = Cx::new(tools, &AnyKey, Cancel::default());
    if backend.finds_sources(pool.kind) {
        let _ = backend.find_sources(&cx, Some(&*pool.source));
    }
    if check_target(pool).is_err() {
        return;
    }
    let _ = backend.is_active(&cx, pool);
    for overwrite in [Overwrite::Unsaid, Overwrite::Yes, Overwrite::No] {
        let _ = backend.build(&cx, pool, overwrite);
    }
    let _ = (backend.start(&cx, pool), backend.refresh(&cx, pool), backend.sizes(&cx, pool));
    if paths::check_name(pool.kind, name).is_ok()
        && let Ok((path, key)) = backend.place(pool, name)
    {
        for format in ["qcow2", "raw", "vmdk"] {
            let mut wanted = Document {
                name: Some(name.into()),
                key: Some(key.clone()),
                capacity: Some(Bytes(8192)),
                allocation: Some(Bytes(8192)),
                ..Document::default()
            };
            wanted.target.path = Some(path.clone());
            wanted.target.format = Some(format.into());
            // Only what a document can say.
            let xml = format!(
                "<volume><name>x</name><capacity>1</capacity><target><format type='qcow2'/><compat>{}</compat></target>\
                 <backingStore><path>{}</path></backingStore></volume>",
                escaped(compat),
                escaped(base)
            );
            if let Ok(said) = Document::parse(&xml, PoolType::Dir, false) {
                wanted.target.compat = said.target.compat;
                wanted.backing = said.backing;
            }
            let how = How::from_flags(0);
            let _ = backend.create(&cx, pool, &Create { wanted: &wanted, how, from: None });
            wanted.backing = None;
            let how = How::from_flags(VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA);
            let _ = backend.create(&cx, pool, &Create { wanted: &wanted, how, from: None });
            let volume = Volume::new(wanted);
            let _ =
                backend.resize(&cx, pool, &volume, Resize { capacity: 9000, shrink: true, allocate: false });
            let _ = backend.look(&cx, pool, &volume);
            let _ = backend.delete_volume(&cx, pool, &volume, 0);
        }
    }
    let _ = (backend.stop(&cx, pool), backend.delete(&cx, pool));
}

/// What is wrong with a run, if anything is.
fn wrong(run: &Run) -> Option<String> {
    let args: Vec<String> = run.args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let takes =
        VALUES.iter().find(|(program, _)| *program == run.program).map_or(&[][..], |(_, takes)| takes);
    for (at, arg) in args.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| args.get(at)).map(String::as_str).unwrap_or_default();
        let dash = arg.starts_with('-') && (arg.contains(MARK) || arg == "-" || arg == "--");
        if dash && !takes.contains(&before) {
            return Some(format!("{} takes '{arg}' for an option: {args:?}", run.program));
        }
        // A list of options: none is added.
        if before == "-o" && matches!(run.program, "qemu-img" | "mount") {
            for option in arg.split(',').filter(|option| option.contains(MARK)) {
                let value = option.split_once('=').is_some_and(|(name, _)| !name.contains(MARK));
                if !value || option.contains(char::is_control) {
                    return Some(format!("{} gets the option '{option}': {args:?}", run.program));
                }
            }
        }
    }
    None
}

#[test]
fn nothing_in_a_document_becomes_an_option() {
    let seen: Mutex<BTreeMap<&'static str, u32>> = Mutex::default();
    let kinds: Vec<PoolType> = PoolType::ALL.iter().map(|(_, kind)| *kind).collect();
    // Mostly one part is odd, so that the others do not end it before.
    let plain = ["ZQ", "/dev/ZQ", "/ZQ", "ZQ", "iqn.ZQ", "ZQ", "3"];
    let mut parts = plain.map(|plain| prop_oneof![5 => Just(plain.to_string()), 1 => odd()].boxed());
    // A device of this host, or a target of a server.
    parts[1] =
        prop_oneof![3 => Just("/dev/ZQ".to_string()), 3 => Just("iqn.ZQ".to_string()), 1 => odd()].boxed();
    let format =
        prop::sample::select(vec!["", "nfs", "cifs", "glusterfs", "ext4", "xfs", "lvm2", "dos", "gpt"]);
    let strategy = (
        prop::sample::select(kinds),
        format,
        parts,
        prop_oneof![2 => Just("ZQ".to_string()), 1 => odd()],
        (odd(), odd(), odd()),
    );
    let mut runner = TestRunner::new(Config::with_cases(1500));
    let done = runner.run(&strategy, |(kind, format, parts, target, (name, base, compat))| {
        let home = tempfile::tempdir().unwrap();
        // Whatever it means, it stays in here: no part of it leads up further than it goes down.
        let inside = home.path().join("a/b/c/d");
        let target = match target.starts_with('-') {
            true => target,
            false => format!("{}/{}", inside.display(), target.replace("..", "_")),
        };
        let Ok(pool) = Pool::parse(&document(kind, format, &parts, &target)) else { return Ok(()) };
        let tools = Noted::default();
        exercise(&tools, home.path(), &pool, (&name, &base, &compat));
        for run in tools.0.into_inner().unwrap() {
            if let Some(why) = wrong(&run) {
                return Err(TestCaseError::fail(why));
            }
            if run.args.iter().any(|arg| arg.to_string_lossy().contains(MARK)) {
                *seen.lock().unwrap().entry(run.program).or_default() += 1;
            }
        }
        Ok(())
    });
    if let Err(error) = done {
        panic!("{error}");
    }
    let seen = seen.into_inner().unwrap();
    println!("runs with a document's words: {seen:?}");
    let programs = [
        "iscsi-ls",
        "iscsiadm",
        "lvcreate",
        "lvremove",
        "lvs",
        "mount",
        "parted",
        "pvcreate",
        "pvremove",
        "qemu-img",
        "rbd",
        "showmount",
        "vgchange",
        "vgcreate",
        "vgremove",
        "vgs",
        "vstorage-mount",
        "zfs",
        "zpool",
    ];
    for program in programs {
        assert!(seen.get(program).is_some_and(|runs| *runs > 0), "{program} was never run: {seen:?}");
    }
    assert!(seen.values().sum::<u32>() > 500, "{seen:?}");
}

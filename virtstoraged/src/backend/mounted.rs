//! Pools that are mounted: a device of this host (fs), or a folder of a file server (netfs, vstorage).

use std::fs;
use std::path::Path;
use std::time::Duration;

use virt_error::{Code, Domain, Error, Result};
use virt_host::tool::{Run, Tools};
use virt_model::storage::source::{Host, PoolSource};
use virt_model::storage::{Pool, PoolType};

use super::folder::Folder;
use super::{Backend, Cx, Overwrite};
use crate::paths;
use crate::pool::invalid;

/// What no pool's file system needs.
const SAFE: &str = "nodev,nosuid,noexec";
/// How long a mount may take.
const MOUNT: Duration = Duration::from_secs(60);
/// Making a file system writes all over a device.
const MKFS: Duration = Duration::from_secs(25 * 60);

/// `<pool type='fs'>`, `<pool type='netfs'>` and `<pool type='vstorage'>`.
pub struct Mounted {
    /// Which of them.
    pub kind: PoolType,
}

/// What is mounted: the first argument of `mount`.
fn what(pool: &Pool) -> Result<String> {
    let source = &pool.source;
    let dir = source.dir.as_deref().unwrap_or_default();
    let text = match pool.kind {
        PoolType::Netfs => {
            let host = host_name(source.hosts.first())?;
            match source.format.as_deref() {
                Some("cifs") => format!("//{host}/{}", dir.trim_start_matches('/')),
                _ if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{dir}"),
                _ => format!("{host}:{dir}"),
            }
        }
        _ => source.device().unwrap_or_default().to_string(),
    };
    match text.starts_with('-') || text.chars().any(char::is_control) {
        true => Err(Error::internal(Domain::Storage, format!("invalid source '{text}' of a mount"))),
        false => Ok(text),
    }
}

/// A server's name that is no option and no list of options.
fn host_name(host: Option<&Host>) -> Result<&str> {
    let name = host.map(|h| h.name.as_str()).unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || ".-_:[]%".contains(c);
    match !name.is_empty() && !name.starts_with('-') && name.chars().all(good) {
        true => Ok(name),
        false => Err(Error::new(Code::InvalidArg, Domain::Storage, format!("invalid host name '{name}'"))),
    }
}

fn mount(pool: &Pool) -> Result<Run> {
    let source = &pool.source;
    let mut options = SAFE.to_string();
    for option in pool.options.mount.iter().filter(|option| !option.is_empty()) {
        options.push(',');
        options.push_str(option);
    }
    let format = source.format.as_deref().unwrap_or("auto");
    match format {
        "nfs" => {
            if let Some(version) = &source.protocol {
                if !version.chars().all(|c| c.is_ascii_alphanumeric() || c == '.') {
                    let text = format!("invalid protocol version '{version}'");
                    return Err(Error::new(Code::InvalidArg, Domain::Storage, text));
                }
                options.push_str(&format!(",nfsvers={version}"));
            }
        }
        "glusterfs" => options.push_str(",direct-io-mode=1"),
        "cifs" => options.push_str(",guest"),
        _ => {}
    }
    let mut run = Run::new("mount", Domain::Storage).deadline(MOUNT).args(["-o", options.as_str()]);
    // mount knows by the source's form which file server it means.
    if !(format == "auto" && pool.kind == PoolType::Netfs) {
        run = run.args(["-t", format]);
    }
    Ok(run.arg(what(pool)?).arg(pool.path()))
}

/// What is mounted at a path, by the kernel's own table; reading it never waits for a file server.
fn mounted_at(path: &str, table: &str) -> Option<String> {
    let plain = |field: &str| {
        field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
    };
    let line = table.lines().rev().find(|l| l.split(' ').nth(4).is_some_and(|f| plain(f) == path))?;
    // After the dash: type, source, options.
    let rest = line.split(" - ").nth(1)?;
    rest.split(' ').nth(1).map(plain)
}

pub(super) fn now_at(path: &str) -> Result<Option<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| Error::system(Domain::Storage, "cannot read file '/proc/self/mountinfo'", e))?;
    Ok(mounted_at(path, &table))
}

/// The signature on a device; `None` for an empty one.
pub(super) fn signature(tools: &dyn Tools, device: &str) -> Result<Option<String>> {
    let run = Run::new("blkid", Domain::Storage).args(["-p", "-o", "export", device]).also_ok(&[2, 8]);
    let output = tools.run(&run)?;
    let text = output.text();
    let value = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)).map(str::to_string);
    match output.status {
        0 => Ok(value("TYPE=").or_else(|| value("PTTYPE=")).or(Some("unknown".to_string()))),
        // Several signatures at once.
        8 => Ok(Some("ambivalent".to_string())),
        _ => Ok(None),
    }
}

/// Refuses to format a device that holds something.
pub(super) fn check_empty(tools: &dyn Tools, device: &str) -> Result<()> {
    if !Path::new(device).exists() {
        let text = format!("Failed to create filesystem probe for device {device}");
        return Err(Error::new(Code::StorageProbeFailed, Domain::Storage, text));
    }
    match signature(tools, device)? {
        None => Ok(()),
        Some(found) => {
            let text =
                format!("Format of device '{device}' detected as '{found}', requires overwrite to continue");
            Err(Error::new(Code::StoragePoolBuilt, Domain::Storage, text))
        }
    }
}

impl Mounted {
    fn format(&self, cx: &Cx<'_>, pool: &Pool, overwrite: Overwrite) -> Result<()> {
        let Some(device) = pool.source.device().filter(|_| pool.kind == PoolType::Fs) else {
            let text = format!("No source device specified when formatting pool '{}'", pool.name());
            return Err(invalid(text));
        };
        if !device.starts_with('/') || !Path::new(device).exists() {
            let text = format!("Source device does not exist when formatting pool '{}'", pool.name());
            return Err(invalid(text));
        }
        if overwrite == Overwrite::No {
            check_empty(cx.tools, device)?;
        }
        let format = pool.source.format.as_deref().unwrap_or("auto");
        let mut run =
            Run::new("mkfs", Domain::Storage).deadline(MKFS).cancel(&cx.cancel).args(["-t", format]);
        // Not even the tool's own question about what is there is asked again.
        match format {
            "xfs" => run = run.arg("-f"),
            "ext2" | "ext3" | "ext4" => run = run.arg("-F"),
            _ => {}
        }
        cx.tools.run(&run.arg(device)).map_err(|e| {
            let text =
                format!("Failed to make filesystem of type '{format}' on device '{device}': {}", e.message());
            Error::new(Code::OperationFailed, Domain::Storage, text).with_source(e)
        })?;
        Ok(())
    }
}

impl Backend for Mounted {
    fn needs(&self) -> &'static [&'static str] {
        match self.kind {
            PoolType::Vstorage => &["vstorage-mount", "umount"],
            _ => &["mount", "umount"],
        }
    }

    fn folder<'a>(&self, pool: &'a Pool) -> Option<Folder<'a>> {
        Some(Folder::of(pool))
    }

    fn is_active(&self, _: &Cx<'_>, pool: &Pool) -> Result<bool> {
        Ok(now_at(pool.path())?.is_some())
    }

    fn start(&self, cx: &Cx<'_>, pool: &Pool) -> Result<()> {
        if let Some(found) = now_at(pool.path())? {
            if found == what(pool)? || pool.kind == PoolType::Vstorage {
                return Ok(());
            }
            let text = format!("target '{}' is already mounted from '{found}'", pool.path());
            return Err(invalid(text));
        }
        if pool.kind == PoolType::Vstorage {
            let name = pool.source.name.as_deref().unwrap_or_default();
            let run = Run::new("vstorage-mount", Domain::Storage).deadline(MOUNT);
            let run = run.args(["-c", name, pool.path()]).cancel(&cx.cancel);
            return cx.tools.run(&run).map(drop);
        }
        cx.tools.run(&mount(pool)?.cancel(&cx.cancel))?;
        paths::sweep(Path::new(pool.path()));
        Ok(())
    }

    fn stop(&self, cx: &Cx<'_>, pool: &Pool) -> Result<()> {
        if now_at(pool.path())?.is_none() {
            return Ok(());
        }
        let run = Run::new("umount", Domain::Storage).deadline(MOUNT).arg(pool.path());
        cx.tools.run(&run.cancel(&cx.cancel)).map(drop)
    }

    fn build(&self, cx: &Cx<'_>, pool: &Pool, overwrite: Overwrite) -> Result<()> {
        Folder::of(pool).make()?;
        match overwrite {
            Overwrite::Unsaid => Ok(()),
            other => self.format(cx, pool, other),
        }
    }

    fn finds_sources(&self, kind: PoolType) -> bool {
        kind == PoolType::Netfs
    }

    fn find_sources(&self, cx: &Cx<'_>, spec: Option<&PoolSource>) -> Result<Vec<PoolSource>> {
        let host = spec.and_then(|s| s.hosts.first()).ok_or_else(|| {
            Error::new(Code::InvalidArg, Domain::Storage, "hostname must be specified for netfs sources")
        })?;
        let name = host_name(Some(host))?;
        let run = Run::new("showmount", Domain::Storage).deadline(MOUNT).args(["--no-headers", "--exports"]);
        let output = cx.tools.run(&run.arg(name).cancel(&cx.cancel))?;
        let found: Vec<_> = exports(&output.text()).map(|dir| export(host, dir)).collect();
        if found.is_empty() {
            let text = format!("no storage pools were found on host '{name}'");
            return Err(Error::new(Code::OperationFailed, Domain::Storage, text));
        }
        Ok(found)
    }
}

/// The folders that `showmount` lists.
fn exports(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|l| l.split_whitespace().next()).filter(|dir| dir.starts_with('/'))
}

fn export(host: &Host, dir: &str) -> PoolSource {
    PoolSource {
        hosts: vec![host.clone()],
        dir: Some(dir.to_string()),
        format: Some("nfs".to_string()),
        ..PoolSource::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::NoKeys;
    use virt_host::tool::{Cancel, Output, RecordedTools};

    fn pool(kind: &str, source: &str) -> Pool {
        let xml = format!(
            "<pool type='{kind}' xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'><name>p</name>\
             <source>{source}</source><target><path>/mnt/p</path></target>\
             <fs:mount_opts><fs:option name='sync'/></fs:mount_opts></pool>"
        );
        Pool::parse(&xml).unwrap()
    }

    fn line(pool: &Pool) -> String {
        let run = mount(pool).unwrap();
        run.args.iter().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn mounts_are_the_references() {
        assert_eq!(
            line(&pool("fs", "<device path='/dev/x'/>")),
            "-o nodev,nosuid,noexec,sync -t auto /dev/x /mnt/p"
        );
        assert_eq!(
            line(&pool("netfs", "<host name='h'/><dir path='/e'/>")),
            "-o nodev,nosuid,noexec,sync h:/e /mnt/p"
        );
        let nfs = "<host name='h'/><dir path='/e'/><format type='nfs'/><protocol ver='3'/>";
        assert_eq!(line(&pool("netfs", nfs)), "-o nodev,nosuid,noexec,sync,nfsvers=3 -t nfs h:/e /mnt/p");
        let cifs = "<host name='h'/><dir path='s'/><format type='cifs'/>";
        assert_eq!(line(&pool("netfs", cifs)), "-o nodev,nosuid,noexec,sync,guest -t cifs //h/s /mnt/p");
        assert!(mount(&pool("netfs", "<host name='-oexec'/><dir path='/e'/>")).is_err());
    }

    #[test]
    fn the_kernels_table_is_read() {
        let table =
            "22 1 0:5 / /dev rw - devtmpfs udev rw\n23 1 7:0 / /mnt/a\\040b rw - ext4 /dev/loop0 rw\n";
        assert_eq!(mounted_at("/mnt/a b", table).as_deref(), Some("/dev/loop0"));
        assert_eq!(mounted_at("/mnt", table), None);
    }

    #[test]
    fn exports_are_found() {
        let said = Output { out: b"/srv/a *\n/srv/b 10.0.0.0/8\n".to_vec(), ..Output::default() };
        let tools = RecordedTools::new([("showmount --no-headers --exports h".to_string(), said)]);
        let cx = Cx::new(&tools, &NoKeys, Cancel::default());
        let mounted = Mounted { kind: PoolType::Netfs };
        let spec = PoolSource::parse("<source><host name='h'/></source>", PoolType::Netfs).unwrap();
        let found = mounted.find_sources(&cx, Some(&spec)).unwrap();
        assert_eq!(found.iter().filter_map(|s| s.dir.as_deref()).collect::<Vec<_>>(), ["/srv/a", "/srv/b"]);
        let text = mounted.find_sources(&cx, None).unwrap_err().message();
        assert_eq!(text, "invalid argument: hostname must be specified for netfs sources");
    }
}

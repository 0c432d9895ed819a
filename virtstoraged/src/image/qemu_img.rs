//! qemu-img: exact arguments for making, converting and resizing images.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::time::Duration;

use virt_error::{Code, Domain, Error, Result};
use virt_host::tool::Run;
use virt_model::storage::Volume;
use virt_model::storage::volume::Bytes;

use super::luks::{self, Key};
use crate::backend::Cx;
use crate::volume::tasks::Progress;

/// No image takes longer; a job that is not wanted any more is cancelled.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// The options of a new image, in the reference's order.
fn options(
    volume: &Volume,
    preallocate: bool,
    backing_format: Option<&str>,
    key: Option<&Key>,
) -> Result<Option<String>> {
    let target = &volume.target;
    let format = format_of(volume);
    let mut options = Vec::new();
    if let Some(format) = backing_format {
        options.push(format!("backing_fmt={format}"));
    }
    if let (Some(key), Some(encryption)) = (key, &target.encryption) {
        options.extend(key.options(format, encryption));
    }
    if preallocate {
        let full = volume.capacity.is_some() && volume.capacity == volume.allocation;
        options.push(format!("preallocation={}", if full { "falloc" } else { "metadata" }));
    }
    if target.nocow {
        options.push("nocow=on".to_string());
    }
    if format == "qcow2" {
        options.push(format!("compat={}", target.compat.as_deref().unwrap_or("1.1")));
        if let Some(size) = target.cluster_size.filter(|c| c.0 > 0) {
            options.push(format!("cluster_size={}", size.0));
        }
        if let Some(features) = &target.features {
            if features.lazy_refcounts {
                if target.compat.as_deref() == Some("0.10") {
                    let text = "lazy_refcounts not supported with compat level 0.10";
                    return Err(Error::new(Code::ConfigUnsupported, Domain::Storage, text));
                }
                options.push("lazy_refcounts".to_string());
            }
            if features.extended_l2 {
                options.push("extended_l2=on".to_string());
            }
        }
    }
    Ok((!options.is_empty()).then(|| options.join(",")))
}

/// What qemu-img calls a volume's format: an ISO image is plain bytes to it.
fn format_of(volume: &Volume) -> &str {
    volume.target.format.as_deref().filter(|format| *format != "iso").unwrap_or("raw")
}

/// Refuses a base that cannot be read. It must be named by its whole path: a relative one would mean another file while
/// the volume is made.
fn check_base(base: &Path) -> Result<()> {
    let opened = match base.is_absolute() {
        true => std::fs::File::open(base).map(drop),
        false => Err(std::io::ErrorKind::NotFound.into()),
    };
    opened.map_err(|e| {
        // An error that was made here has no number yet.
        let e = if e.raw_os_error().is_none() { rustix::io::Errno::NOENT.into() } else { e };
        Error::system(Domain::Storage, format!("inaccessible backing store volume {}", base.display()), e)
    })
}

/// Refuses what no image of the format can have, and a base that is not there.
///
/// # Errors
/// Codes 67, 38 and 3 in the reference's words.
pub fn check(volume: &Volume, preallocate: bool) -> Result<()> {
    let format = format_of(volume);
    let unsupported = |text: String| Err(Error::new(Code::ConfigUnsupported, Domain::Storage, text));
    if preallocate && format != "qcow2" {
        return unsupported("metadata preallocation only available with qcow2".into());
    }
    if let Some(encryption) = &volume.target.encryption {
        luks::check(format, encryption)?;
    }
    if let Some(base) = volume.backing_path() {
        if format == "raw" {
            return unsupported("cannot set backing store for raw volume".into());
        }
        if preallocate {
            return unsupported("metadata preallocation conflicts with backing store".into());
        }
        check_base(Path::new(base))?;
        if !matches!(format, "cow" | "qcow" | "qcow2" | "qed" | "vmdk") {
            return unsupported(format!("backing storage not supported for {format} volumes"));
        }
    }
    if volume.target.compat.is_some() && !matches!(format, "qcow2" | "raw") {
        return unsupported("compatibility option only available with qcow2".into());
    }
    options(volume, preallocate, None, None).map(drop)
}

/// How far `-p` says qemu-img is: "    (12.34/100%)".
fn follow(run: Run, progress: &Progress) -> Run {
    let progress = progress.clone();
    run.watch(move |piece| {
        let text = String::from_utf8_lossy(piece);
        let told = text.rsplit('(').find_map(|t| t.split_once("/100%")?.0.trim().parse().ok());
        if let Some(percent) = told {
            progress.percent(percent);
        }
    })
}

fn begin(cx: &Cx<'_>, command: &str) -> Run {
    Run::new("qemu-img", Domain::Storage).tied().deadline(LONG).cancel(&cx.cancel).arg(command)
}

/// `qemu-img create`: a new image, perhaps on a base.
///
/// # Errors
/// As [`check`]; codes 66 and 8 for a passphrase that is not there; what qemu-img says.
pub fn create(cx: &Cx<'_>, volume: &Volume, path: &Path, preallocate: bool) -> Result<()> {
    let (format, encrypted) = (format_of(volume), volume.target.encryption.is_some());
    let mut run =
        begin(cx, "create").args(["-f", if encrypted && format == "raw" { "luks" } else { format }]);
    // As in the reference a passphrase that is missing comes before all that else is wrong.
    let key = Key::give(&mut run, cx.keys, volume, "encrypt0")?;
    check(volume, preallocate)?;
    let mut backing_format = None;
    if let Some(base) = volume.backing_path() {
        run = run.arg("-b").arg(base);
        // A base without a format is taken as it is, never guessed at.
        backing_format = Some(volume.backing.as_ref().and_then(|b| b.format.as_deref()).unwrap_or("raw"));
    }
    if let Some(options) = options(volume, preallocate, backing_format, key.as_ref())? {
        run = run.arg("-o").arg(options);
    }
    run = run.arg(path);
    // Without a size of its own an image is as large as its base.
    let own = |capacity: &Bytes| capacity.0 > 0 || volume.backing_path().is_none();
    if let Some(capacity) = volume.capacity.filter(own) {
        run = run.arg(format!("{}K", capacity.0.div_ceil(1024)));
    }
    cx.tools.run(&run).map(drop)
}

/// How an image is opened: `--image-opts`.
fn opening(path: &Path, format: &str, key: Option<&Key>) -> OsString {
    let driver = if format == "raw" && key.is_some() { "luks" } else { format };
    let mut text = OsString::from(format!("driver={driver},"));
    if let Some(key) = key {
        text.push(key.opens(format));
        text.push(",");
    }
    text.push("file.filename=");
    let path = path.as_os_str().as_bytes();
    // A comma in a name is told by two.
    let doubled: Vec<u8> =
        path.iter().flat_map(|b| std::iter::repeat_n(*b, 1 + usize::from(*b == b','))).collect();
    text.push(OsString::from_vec(doubled));
    text
}

/// `qemu-img convert`: a new image with another's content. Between encrypted images the new one is made first and then
/// filled, because only so both passphrases can be told.
///
/// # Errors
/// As [`create`].
pub fn convert(
    cx: &Cx<'_>,
    (from_path, from): (&Path, &Volume),
    volume: &Volume,
    path: &Path,
    preallocate: bool,
) -> Result<()> {
    let (from_format, format) = (format_of(from), format_of(volume));
    cx.progress.expect(from.capacity.map_or(0, |b| b.0));
    let mut run = begin(cx, "convert").arg("-p");
    if from.target.encryption.is_none() && volume.target.encryption.is_none() {
        check(volume, preallocate)?;
        run = run.args(["-f", from_format, "-O", format]);
        if let Some(options) = options(volume, preallocate, None, None)? {
            run = run.arg("-o").arg(options);
        }
        run = run.arg(from_path).arg(path);
    } else {
        // Before anything is made: a passphrase that is missing stops it here.
        let to_key = Key::give(&mut run, cx.keys, volume, "encrypt0")?;
        let from_key = Key::give(&mut run, cx.keys, from, "source0")?;
        create(cx, volume, path, preallocate)?;
        run = run.args(["--image-opts", "-n", "--target-image-opts"]);
        run = run.arg(opening(from_path, from_format, from_key.as_ref()));
        run = run.arg(opening(path, format, to_key.as_ref()));
    }
    cx.tools.run(&follow(run, &cx.progress)).map(drop)
}

/// `qemu-img convert -n`: an image's content onto a device that is there.
///
/// # Errors
/// Codes 66 and 8 for a passphrase that is not there; what qemu-img says.
pub fn fill(cx: &Cx<'_>, (from_path, from): (&Path, &Volume), device: &Path) -> Result<()> {
    cx.progress.expect(from.capacity.map_or(0, |b| b.0));
    let mut run = begin(cx, "convert").arg("-p");
    let key = Key::give(&mut run, cx.keys, from, "source0")?;
    let format = format_of(from);
    run = run.args(["--image-opts", "-n", "--target-image-opts"]);
    run = run.arg(opening(from_path, format, key.as_ref())).arg(opening(device, "raw", None));
    cx.tools.run(&follow(run, &cx.progress)).map(drop)
}

/// `qemu-img resize`.
///
/// # Errors
/// Code 84 for an image whose blocks are to be taken at once; code 27 for an encrypted one without a secret; what
/// qemu-img says.
pub fn resize(
    cx: &Cx<'_>,
    path: &Path,
    volume: &Volume,
    capacity: u64,
    (shrink, allocate): (bool, bool),
) -> Result<()> {
    let format = format_of(volume);
    let encryption = volume.target.encryption.as_ref();
    if allocate && (format != "raw" || encryption.is_some()) {
        let text = match format {
            "raw" => "preallocate is only supported for an unencrypted raw volume",
            _ => "preallocate is only supported for raw type volume",
        };
        return Err(Error::new(Code::OperationUnsupported, Domain::Storage, text));
    }
    encryption.map_or(Ok(()), luks::need_secret)?;
    let mut run = begin(cx, "resize");
    let key = Key::give(&mut run, cx.keys, volume, "encrypt0")?;
    if key.is_none() {
        // The format is what the pool knows, not what qemu-img would guess.
        run = run.args(["-f", format]);
    }
    if allocate {
        run = run.arg("--preallocation=falloc");
    }
    if shrink {
        run = run.arg("--shrink");
    }
    run = match &key {
        Some(_) => run.arg("--image-opts").arg(opening(path, format, key.as_ref())),
        None => run.arg(path),
    };
    cx.tools.run(&run.arg(capacity.to_string())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use uuid::Uuid;
    use virt_host::tool::{Cancel, Output, RecordedTools};
    use virt_model::secret::UsageType;
    use virt_model::storage::PoolType;
    use virt_secret::Value;

    use crate::keys::Keys;

    struct OneKey;

    impl Keys for OneKey {
        fn reveal(&self, uuid: Option<&Uuid>, _: Option<&str>, kind: UsageType) -> Result<Value> {
            assert!(uuid.is_some() && kind == UsageType::Volume);
            Ok(Value::new(b"hunter2".to_vec()))
        }

        fn of_volumes(&self) -> Result<HashMap<String, Uuid>> {
            Ok(HashMap::new())
        }
    }

    fn command(xml: &str, preallocate: bool) -> Result<String> {
        let base = tempfile::NamedTempFile::new().unwrap();
        let path = base.path().to_string_lossy();
        let volume = Volume::parse(&xml.replace("/p/base", &path), PoolType::Dir, false)?;
        let tools = RecordedTools::new([("x".to_string(), Output::default())]);
        let cx = Cx::new(&tools, &OneKey, Cancel::default());
        let error = create(&cx, &volume, Path::new("/p/a"), preallocate).unwrap_err();
        let text = error.message();
        match text.split('`').nth(1) {
            Some(line) => Ok(line.replace(&*path, "/p/base")),
            None => Err(error),
        }
    }

    #[test]
    fn arguments_are_the_references() {
        let xml = "<volume><name>a</name><capacity unit='M'>10</capacity><target><format type='qcow2'/>\
            <clusterSize unit='KiB'>64</clusterSize><nocow/><features><lazy_refcounts/><extended_l2/></features></target>\
            <backingStore><path>/p/base</path><format type='qcow2'/></backingStore></volume>";
        assert_eq!(
            command(xml, false).unwrap(),
            "qemu-img create -f qcow2 -b /p/base -o backing_fmt=qcow2,nocow=on,compat=1.1,cluster_size=65536,\
             lazy_refcounts,extended_l2=on /p/a 10240K"
        );
        let text = command(xml, true).unwrap_err().message();
        assert_eq!(text, "unsupported configuration: metadata preallocation conflicts with backing store");
        let xml = "<volume><name>a</name><target><format type='qcow2'/></target>\
            <backingStore><path>/p/base</path></backingStore></volume>";
        assert_eq!(
            command(xml, false).unwrap(),
            "qemu-img create -f qcow2 -b /p/base -o backing_fmt=raw,compat=1.1 /p/a"
        );
    }

    fn encrypted(format: &str, encryption: &str) -> Volume {
        let xml = format!(
            "<volume><name>a</name><capacity>1048576</capacity><target><format type='{format}'/>{encryption}\
             </target></volume>"
        );
        Volume::parse(&xml, PoolType::Dir, false).unwrap()
    }

    const SECRET: &str = "<secret type='passphrase' uuid='5ec2e700-0000-4000-8000-000000000001'/>";

    #[test]
    fn a_passphrase_is_handed_over_as_a_file() {
        let luks = format!(
            "<encryption format='luks'>{SECRET}<cipher name='aes' size='256' mode='cbc' hash='sha256'/>\
             <ivgen name='plain64' hash='sha256'/></encryption>"
        );
        let lines = [
            "qemu-img create -f luks --object secret,id=encrypt0,file=/dev/fd/3 -o key-secret=encrypt0,cipher-alg=aes-256,\
             cipher-mode=cbc,hash-alg=sha256,ivgen-alg=plain64,ivgen-hash-alg=sha256 /p/a 1024K",
            "qemu-img create -f qcow2 --object secret,id=encrypt0,file=/dev/fd/3 -o encrypt.format=luks,\
             encrypt.key-secret=encrypt0,compat=1.1 /p/b 1024K",
            "qemu-img convert -p --object secret,id=encrypt0,file=/dev/fd/3 --object secret,id=source0,file=/dev/fd/4 \
             --image-opts -n --target-image-opts driver=luks,key-secret=source0,file.filename=/p/a,,x \
             driver=qcow2,encrypt.key-secret=encrypt0,file.filename=/p/b",
            "qemu-img resize --object secret,id=encrypt0,file=/dev/fd/3 --shrink --image-opts \
             driver=luks,key-secret=encrypt0,file.filename=/p/a 5",
        ];
        let tools = RecordedTools::new(lines.map(|line| (line.to_string(), Output::default())));
        let cx = Cx::new(&tools, &OneKey, Cancel::default());
        let raw = encrypted("raw", &luks);
        let qcow2 = encrypted("qcow2", &format!("<encryption format='luks'>{SECRET}</encryption>"));
        create(&cx, &raw, Path::new("/p/a"), false).unwrap();
        convert(&cx, (Path::new("/p/a,x"), &raw), &qcow2, Path::new("/p/b"), false).unwrap();
        resize(&cx, Path::new("/p/a"), &raw, 5, (true, false)).unwrap();
        assert!(tools.left().is_empty(), "{:?}", tools.left());
    }

    #[test]
    fn what_cannot_be_encrypted_is_refused_in_the_references_words() {
        let refused = |format: &str, encryption: &str| {
            check(&encrypted(format, encryption), false).unwrap_err().message()
        };
        let with = |format: &str| format!("<encryption format='{format}'>{SECRET}</encryption>");
        let single = "invalid argument: A single <secret type='passphrase'...> element is expected in encryption \
                      description";
        assert_eq!(refused("vmdk", "<encryption format='luks'/>"), single);
        assert_eq!(
            refused("raw", &format!("<encryption format='luks'>{SECRET}{SECRET}</encryption>")),
            single
        );
        assert_eq!(
            refused("raw", &with("qcow")),
            "internal error: Only luks encryption is supported for raw files"
        );
        let of = |text: &str| format!("unsupported configuration: {text}");
        assert_eq!(
            refused("qcow2", &with("default")),
            of("creation of qcow2 encrypted image is not supported")
        );
        assert_eq!(refused("qcow2", &with("luks2")), of("unsupported volume encryption format 3"));
        assert_eq!(refused("vmdk", &with("luks")), of("volume encryption unsupported with format vmdk"));
        check(&encrypted("qcow2", &with("luks")), true).unwrap();
    }

    #[test]
    fn progress_is_what_the_program_says() {
        let progress = Progress::default();
        progress.expect(1000);
        let run = follow(
            Run::new("sh", Domain::Storage).args(["-c", "printf '    (0.00/100%%)\\r    (25.50/100%%)\\r'"]),
            &progress,
        );
        virt_host::tool::Tools::run(&virt_host::tool::HostTools, &run).unwrap();
        assert_eq!(progress.done(), 255);
    }
}

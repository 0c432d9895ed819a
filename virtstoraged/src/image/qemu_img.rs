//! qemu-img: exact arguments for making, converting and resizing images.

use std::path::Path;
use std::time::Duration;

use virt_error::{Code, Domain, Error, Result};
use virt_host::tool::{Cancel, Run, Tools};
use virt_model::storage::Volume;

/// No image takes longer; a job that is not wanted any more is cancelled.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// The options of a new image, in the reference's order.
fn options(volume: &Volume, preallocate: bool, backing_format: Option<&str>) -> Result<Option<String>> {
    let target = &volume.target;
    let format = target.format.as_deref().unwrap_or("raw");
    let mut options = Vec::new();
    if let Some(format) = backing_format {
        options.push(format!("backing_fmt={format}"));
    }
    if preallocate {
        let full = volume.capacity.is_some() && volume.capacity == volume.allocation;
        options.push(format!("preallocation={}", if full { "falloc" } else { "metadata" }));
    }
    if target.nocow {
        options.push("nocow=on".to_string());
    }
    if format == "qcow2" {
        if let Some(compat) = &target.compat {
            options.push(format!("compat={compat}"));
        }
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

/// Refuses what no image of the format can have.
///
/// # Errors
/// Codes 67 and 3 in the reference's words.
pub fn check(volume: &Volume, preallocate: bool) -> Result<()> {
    let format = volume.target.format.as_deref().unwrap_or("raw");
    let unsupported = |text: String| Err(Error::new(Code::ConfigUnsupported, Domain::Storage, text));
    if preallocate && format != "qcow2" {
        return unsupported("metadata preallocation only available with qcow2".into());
    }
    if volume.backing_path().is_some() {
        if preallocate {
            return unsupported("metadata preallocation conflicts with backing store".into());
        }
        if !matches!(format, "cow" | "qcow" | "qcow2" | "qed" | "vmdk") {
            return unsupported(format!("backing storage not supported for {format} volumes"));
        }
    }
    options(volume, preallocate, None).map(drop)
}

/// `qemu-img create`: a new image, perhaps on a base.
///
/// # Errors
/// As [`check`]; what qemu-img says.
pub fn create(
    tools: &dyn Tools,
    volume: &Volume,
    path: &Path,
    preallocate: bool,
    cancel: &Cancel,
) -> Result<()> {
    check(volume, preallocate)?;
    let format = volume.target.format.as_deref().unwrap_or("raw");
    let mut run = Run::new("qemu-img", Domain::Storage).deadline(LONG).cancel(cancel);
    run = run.args(["create", "-f", format]);
    let mut backing_format = None;
    if let Some(base) = volume.backing_path() {
        run = run.arg("-b").arg(base);
        // A base without a format is taken as it is, never guessed at.
        backing_format = Some(volume.backing.as_ref().and_then(|b| b.format.as_deref()).unwrap_or("raw"));
    }
    if let Some(options) = options(volume, preallocate, backing_format)? {
        run = run.arg("-o").arg(options);
    }
    run = run.arg(path);
    if let Some(capacity) = volume.capacity {
        run = run.arg(format!("{}K", capacity.0.div_ceil(1024)));
    }
    tools.run(&run).map(drop)
}

/// `qemu-img convert`: a new image with another's content.
///
/// # Errors
/// As [`check`]; what qemu-img says.
pub fn convert(
    tools: &dyn Tools,
    from: (&Path, &str),
    volume: &Volume,
    path: &Path,
    preallocate: bool,
    cancel: &Cancel,
) -> Result<()> {
    check(volume, preallocate)?;
    let format = volume.target.format.as_deref().unwrap_or("raw");
    let mut run = Run::new("qemu-img", Domain::Storage).deadline(LONG).cancel(cancel);
    run = run.args(["convert", "-f", from.1, "-O", format]);
    if let Some(options) = options(volume, preallocate, None)? {
        run = run.arg("-o").arg(options);
    }
    tools.run(&run.arg(from.0).arg(path)).map(drop)
}

/// `qemu-img resize`.
///
/// # Errors
/// Code 84 for an image whose blocks are to be taken at once; what qemu-img says.
pub fn resize(
    tools: &dyn Tools,
    path: &Path,
    format: &str,
    capacity: u64,
    (shrink, allocate): (bool, bool),
    cancel: &Cancel,
) -> Result<()> {
    if allocate && format != "raw" {
        let text = "preallocate is only supported for raw type volume";
        return Err(Error::new(Code::OperationUnsupported, Domain::Storage, text));
    }
    let mut run = Run::new("qemu-img", Domain::Storage).deadline(LONG).cancel(cancel).arg("resize");
    // The format is what the pool knows, not what qemu-img would guess.
    run = run.args(["-f", format]);
    if allocate {
        run = run.arg("--preallocation=falloc");
    }
    if shrink {
        run = run.arg("--shrink");
    }
    tools.run(&run.arg(path).arg(capacity.to_string())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_host::tool::{Output, RecordedTools};
    use virt_model::storage::PoolType;

    fn command(xml: &str, preallocate: bool) -> Result<String> {
        let volume = Volume::parse(xml, PoolType::Dir, false)?;
        let tools = RecordedTools::new([("x".to_string(), Output::default())]);
        let error = create(&tools, &volume, Path::new("/p/a"), preallocate, &Cancel::default()).unwrap_err();
        let text = error.message();
        match text.split('`').nth(1) {
            Some(line) => Ok(line.to_string()),
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
            "qemu-img create -f qcow2 -b /p/base -o backing_fmt=raw /p/a"
        );
    }
}

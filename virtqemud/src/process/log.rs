//! A guest's log file: our head and end lines, QEMU's own words between them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How much of QEMU's last words goes into an error, in bytes.
const MAX_TAIL: u64 = 4096;

/// Facts for the head of a run's log.
#[derive(Debug, Clone)]
pub struct Head<'a> {
    /// The wire version that clients see: "11.3.0".
    pub libvirt: &'a str,
    /// Our own package and version.
    pub package: &'a str,
    /// The emulator's version with the distribution's text.
    pub qemu: &'a str,
    /// Environment of the process.
    pub env: &'a [(String, String)],
    /// The program and its arguments.
    pub argv: &'a [String],
}

/// Appends the head of a run and returns where QEMU's words begin.
pub fn begin(path: &Path, head: &Head) -> io::Result<u64> {
    let mut file = open(path)?;
    let system = rustix::system::uname();
    let mut text = format!(
        "{}: starting up libvirt version: {}, package: {}, qemu version: {}, kernel: {}, hostname: {}\n",
        stamp(SystemTime::now()),
        head.libvirt,
        head.package,
        head.qemu,
        system.release().to_string_lossy(),
        system.nodename().to_string_lossy(),
    );
    for (key, value) in head.env {
        text.push_str(&format!("{key}={} \\\n", quoted(value)));
    }
    let mut args = head.argv.iter().map(|a| quoted(a)).peekable();
    while let Some(arg) = args.next() {
        text.push_str(&arg);
        // A flag keeps its value on its line.
        if arg.starts_with('-')
            && let Some(value) = args.next_if(|next| !next.starts_with('-'))
        {
            text.push(' ');
            text.push_str(&value);
        }
        text.push_str(if args.peek().is_some() { " \\\n" } else { "\n" });
    }
    file.write_all(text.as_bytes())?;
    file.seek(SeekFrom::End(0))
}

/// Appends the end of a run: `reason` is a shutoff reason's word.
pub fn end(path: &Path, reason: &str) -> io::Result<()> {
    note(path, &format!("shutting down, reason={reason}"))
}

/// Appends a line of ours with its time.
pub fn note(path: &Path, text: &str) -> io::Result<()> {
    open(path)?.write_all(format!("{}: {text}\n", stamp(SystemTime::now())).as_bytes())
}

/// What QEMU wrote since `from`, the end of it, without the lines that are no complaint.
pub fn tail(path: &Path, from: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(end.saturating_sub(MAX_TAIL))))?;
    let mut bytes = Vec::new();
    file.take(MAX_TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text
        .lines()
        .filter(|l| !l.starts_with("char device redirected to") && !l.ends_with(" (libvirtd)"))
        .collect();
    Ok(lines.join("\n").trim_end().to_string())
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// "2026-11-21 08:04:13.894+0000", in UTC as libvirt's logs.
pub fn stamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{:03}+0000",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

/// The date that lies so many days after 1970-01-01.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let leap = |y: u64| y.is_multiple_of(4) && !y.is_multiple_of(100) || y.is_multiple_of(400);
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

/// As a shell would take it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=,./:@%^".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_string();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let at = |s| stamp(UNIX_EPOCH + Duration::from_millis(s));
        assert_eq!(at(0), "1970-01-01 00:00:00.000+0000");
        assert_eq!(at(951_782_400_000), "2000-02-29 00:00:00.000+0000");
        assert_eq!(at(1_795_248_253_894), "2026-11-21 08:04:13.894+0000");
    }

    #[test]
    fn a_log_has_head_words_and_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("sub/vm.log");
        let argv =
            ["/usr/bin/qemu", "-name", "guest=a", "-S", "-append", "it's", "-no-user-config"].map(Into::into);
        let env = [("LC_ALL".to_string(), "C".to_string())];
        let head = Head { libvirt: "11.3.0", package: "p", qemu: "10.0.2", env: &env, argv: &argv };
        let from = begin(&path, &head).expect("begun");
        let text = fs::read_to_string(&path).expect("a log");
        assert!(text.contains(
            "+0000: starting up libvirt version: 11.3.0, package: p, qemu version: 10.0.2, kernel:"
        ));
        assert!(
            text.ends_with("LC_ALL=C \\\n/usr/bin/qemu \\\n-name guest=a \\\n-S \\\n-append 'it'\\''s' \\\n-no-user-config\n"),
            "{text}"
        );
        let said =
            "char device redirected to /dev/pts/0 (label charserial0)\nqemu: could not load PC BIOS 'x'\n";
        open(&path).expect("opened").write_all(said.as_bytes()).expect("written");
        assert_eq!(tail(&path, from).expect("a tail"), "qemu: could not load PC BIOS 'x'");
        end(&path, "destroyed").expect("ended");
        assert!(fs::read_to_string(&path).expect("a log").ends_with(": shutting down, reason=destroyed\n"));
        open(&path).expect("opened").write_all(&[b'x'; 100_000]).expect("written");
        assert_eq!(tail(&path, from).expect("a tail").len() as u64, MAX_TAIL);
    }
}

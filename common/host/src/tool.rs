//! Programs of the host (qemu-img, mount, lvm ...) behind a narrow trait: exact arguments, a deadline, a way to cancel.
//!
//! Everything here blocks: call it on a thread of its own. No shell is involved and nothing is inherited but PATH and the
//! C locale, so output can be parsed.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use virt_error::{Code, Domain, Error, Result};
use zeroize::Zeroizing;

/// Where programs are looked for, besides PATH.
const FOLDERS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
/// The longest output kept of a program.
const MOST_OUTPUT: u64 = 16 * 1024 * 1024;
/// The longest pause between two looks at a running program.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Stops running programs from elsewhere. Clones are the same switch.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for the end.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the end was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Fails with code 78 once the end was asked for.
    ///
    /// # Errors
    /// Code 78.
    pub fn check(&self, domain: Domain) -> Result<()> {
        match self.is_cancelled() {
            true => Err(Error::new(Code::OperationAborted, domain, "cancelled by a request")),
            false => Ok(()),
        }
    }
}

/// The number of the first file that is handed to a program.
const FIRST_FILE: i32 = 3;

/// Bytes that nothing prints and that are overwritten in the end.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Zeroizing<Vec<u8>>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

type See = dyn Fn(&[u8]) + Send + Sync;

/// Sees a program's standard output as it comes, in pieces of any size.
#[derive(Clone)]
pub struct Watch(Arc<See>);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// One run of a program. A secret never stands among the arguments: it is in a file that is handed over ([`Run::hand`]),
/// or in the environment where a program takes it from nowhere else ([`Run::hidden`]).
#[derive(Debug, Clone)]
pub struct Run {
    /// The program's name, without folder.
    pub program: &'static str,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Given on its standard input.
    pub input: Vec<u8>,
    /// Open files it gets, numbered from 3 on.
    pub files: Vec<Arc<OwnedFd>>,
    /// Variables of its environment that only it and its user may read.
    pub hidden: Vec<(&'static str, Hidden)>,
    /// Sees its output meanwhile.
    pub watch: Option<Watch>,
    /// It ends with us: what works on something that we answer for must not go on when we are killed.
    pub tied: bool,
    /// After this time it is killed.
    pub deadline: Duration,
    /// Exit statuses that are answers, besides 0.
    pub also_ok: &'static [i32],
    /// Error domain of a failure.
    pub domain: Domain,
    /// Kills it when asked.
    pub cancel: Cancel,
}

impl Run {
    /// A run with a deadline of a minute.
    pub fn new(program: &'static str, domain: Domain) -> Self {
        Self {
            program,
            args: Vec::new(),
            input: Vec::new(),
            files: Vec::new(),
            hidden: Vec::new(),
            watch: None,
            tied: false,
            deadline: Duration::from_secs(60),
            also_ok: &[],
            domain,
            cancel: Cancel::default(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the deadline.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Exit statuses that are answers too.
    #[must_use]
    pub fn also_ok(self, also_ok: &'static [i32]) -> Self {
        Self { also_ok, ..self }
    }

    /// Lets somebody kill it.
    #[must_use]
    pub fn cancel(self, cancel: &Cancel) -> Self {
        Self { cancel: cancel.clone(), ..self }
    }

    /// Hands it an open file; the path is the one by which the program opens it.
    pub fn hand(&mut self, file: OwnedFd) -> String {
        let number = FIRST_FILE.saturating_add(i32::try_from(self.files.len()).unwrap_or(i32::MAX));
        self.files.push(Arc::new(file));
        format!("/dev/fd/{number}")
    }

    /// Adds a variable that must not be seen.
    #[must_use]
    pub fn hidden(mut self, name: &'static str, value: &[u8]) -> Self {
        self.hidden.push((name, Hidden(Zeroizing::new(value.to_vec()))));
        self
    }

    /// Lets it end when this process is killed.
    #[must_use]
    pub fn tied(self) -> Self {
        Self { tied: true, ..self }
    }

    /// Shows its output to `see` meanwhile.
    #[must_use]
    pub fn watch(self, see: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        Self { watch: Some(Watch(Arc::new(see))), ..self }
    }

    fn line(&self, path: &Path) -> String {
        let words = self.args.iter().map(|a| quoted(&a.to_string_lossy()));
        std::iter::once(quoted(&path.to_string_lossy())).chain(words).collect::<Vec<_>>().join(" ")
    }
}

/// A word as one would type it into a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "/,._+:@%=-".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// What a program answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Its exit status.
    pub status: i32,
    /// Its standard output.
    pub out: Vec<u8>,
    /// Its standard error.
    pub err: Vec<u8>,
}

impl Output {
    /// The standard output as text; bytes that are none are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// Runs programs of the host.
pub trait Tools: Send + Sync {
    /// Where a program is.
    fn find(&self, program: &str) -> Option<PathBuf>;

    /// Runs a program to its end.
    ///
    /// # Errors
    /// Code 1 with the command, its status and what it said, as the reference words it; code 38 when it is not
    /// installed or cannot be started; code 68 after the deadline; code 78 when it was cancelled.
    fn run(&self, run: &Run) -> Result<Output>;
}

/// The host's own programs.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostTools;

impl Tools for HostTools {
    fn find(&self, program: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
        folders.filter(|dir| dir.is_absolute()).map(|dir| dir.join(program)).find(|p| p.is_file())
    }

    fn run(&self, run: &Run) -> Result<Output> {
        let path = self.find(run.program).ok_or_else(|| {
            let text = format!("Cannot find '{}' in path: No such file or directory", run.program);
            Error::new(Code::SystemError, run.domain, text).with("program", run.program)
        })?;
        tracing::debug!(command = run.line(&path), "running a program");
        let mut command = self.command(run, &path);
        command.args(&run.args).env_clear().env("LC_ALL", "C").env("PATH", search_path());
        // LVM would tell of every descriptor that somebody else left open.
        command.env("LVM_SUPPRESS_FD_WARNINGS", "1");
        let input = if run.input.is_empty() { Stdio::null() } else { Stdio::piped() };
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        for (name, value) in &run.hidden {
            command.env(name, OsStr::from_bytes(&value.0));
        }
        let failed = |e| Error::system(run.domain, format!("cannot execute binary {}", path.display()), e);
        hand_over(&mut command, run).map_err(failed)?;
        let mut child = command.spawn().map_err(failed)?;
        let output = attend(&mut child, run, &path)?;
        if output.status != 0 && !run.also_ok.contains(&output.status) {
            let said = String::from_utf8_lossy(&output.err);
            let text = format!(
                "Child process ({}) unexpected exit status {}: {said}",
                run.line(&path),
                output.status
            );
            // The program's words as they are, with the end of their line: so does the reference.
            return Err(Error::internal(Domain::None, text)
                .with("program", run.program)
                .with("status", output.status));
        }
        Ok(output)
    }
}

impl HostTools {
    /// The program, or what becomes it after it has tied itself to us. The thread that starts it waits for its end.
    fn command(&self, run: &Run, path: &Path) -> Command {
        match self.find("setpriv").filter(|_| run.tied) {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(path);
                command
            }
            None => Command::new(path),
        }
    }
}

/// Gives the program its files, and no other descriptor.
fn hand_over(command: &mut Command, run: &Run) -> std::io::Result<()> {
    if run.files.is_empty() {
        return Ok(());
    }
    let mapping =
        |(file, child_fd): (&Arc<OwnedFd>, i32)| Ok(FdMapping { parent_fd: file.try_clone()?, child_fd });
    let mappings = run.files.iter().zip(FIRST_FILE..).map(mapping).collect::<std::io::Result<Vec<_>>>()?;
    command.fd_mappings(mappings).map(drop).map_err(std::io::Error::other)
}

fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    std::env::join_paths(folders).unwrap_or_default()
}

/// Feeds and drains a program until it ends, its time is over, or somebody wants it to end.
fn attend(child: &mut Child, run: &Run, path: &Path) -> Result<Output> {
    let out = drain(child.stdout.take(), run.watch.clone());
    let err = drain(child.stderr.take(), None);
    if let Some(mut stdin) = child.stdin.take() {
        let input = run.input.clone();
        // A program that reads nothing must not hold us up.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let end = Instant::now() + run.deadline;
    let mut pause = Duration::from_millis(1);
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|e| lost(run, path, e))? {
            break status;
        }
        let refused = match (run.cancel.check(run.domain), Instant::now() >= end) {
            (Err(cancelled), _) => Some(cancelled),
            (Ok(()), true) => {
                let text =
                    format!("{} did not end within {} seconds", run.line(path), run.deadline.as_secs());
                Some(Error::new(Code::OperationTimeout, run.domain, text))
            }
            (Ok(()), false) => None,
        };
        if let Some(error) = refused {
            kill(child);
            return Err(error.with("program", run.program));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    };
    Ok(Output { status: number(status), out: out.finish(), err: err.finish() })
}

fn lost(run: &Run, path: &Path, error: std::io::Error) -> Error {
    Error::system(run.domain, format!("unable to wait for process {}", path.display()), error)
}

/// Its exit status; 128 and the number for one that a signal ended, as shells tell it.
fn number(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(-1)
}

/// Kills a program with all it started. One that hangs in the kernel is left to a thread that reaps it one day.
fn kill(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    for _ in 0..40 {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            _ => return,
        }
    }
    tracing::warn!(pid = child.id(), "a killed program hangs in the kernel");
}

struct Drain(Option<std::thread::JoinHandle<Vec<u8>>>);

fn drain(from: Option<impl Read + Send + 'static>, watch: Option<Watch>) -> Drain {
    Drain(from.map(|from| {
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            // What is cut off ends the pipe: a program that goes on writing is told so.
            let mut from = from.take(MOST_OUTPUT);
            match watch {
                None => drop(from.read_to_end(&mut kept)),
                Some(watch) => show(&mut from, &mut kept, &watch),
            }
            kept
        })
    }))
}

fn show(from: &mut impl Read, kept: &mut Vec<u8>, watch: &Watch) {
    let mut piece = [0; 4096];
    while let Ok(n) = from.read(&mut piece) {
        let Some(piece) = piece.get(..n).filter(|p| !p.is_empty()) else { return };
        watch.0(piece);
        kept.extend_from_slice(piece);
    }
}

impl Drain {
    fn finish(self) -> Vec<u8> {
        self.0.and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

/// Programs that only exist as recordings: each run takes the next expected answer, and must be the expected command.
#[derive(Debug, Default)]
pub struct RecordedTools {
    expected: Mutex<VecDeque<(String, Output)>>,
    missing: Vec<&'static str>,
}

impl RecordedTools {
    /// Answers in this order; each with the command line (program without folder) it belongs to.
    pub fn new(expected: impl IntoIterator<Item = (String, Output)>) -> Self {
        Self { expected: Mutex::new(expected.into_iter().collect()), missing: Vec::new() }
    }

    /// Says that a program is not installed.
    #[must_use]
    pub fn without(mut self, program: &'static str) -> Self {
        self.missing.push(program);
        self
    }

    /// The commands that were expected but not run.
    pub fn left(&self) -> Vec<String> {
        let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.iter().map(|(line, _)| line.clone()).collect()
    }
}

impl Tools for RecordedTools {
    fn find(&self, program: &str) -> Option<PathBuf> {
        (!self.missing.contains(&program)).then(|| Path::new("/usr/bin").join(program))
    }

    fn run(&self, run: &Run) -> Result<Output> {
        let line = run.line(Path::new(run.program));
        let next = self.expected.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match next {
            Some((wanted, output)) if wanted == line => match output.status {
                0 => Ok(output),
                status if run.also_ok.contains(&status) => Ok(output),
                status => {
                    Err(Error::internal(run.domain, format!("({line}) unexpected exit status {status}"))
                        .with("status", status))
                }
            },
            Some((wanted, _)) => {
                Err(Error::internal(run.domain, format!("ran `{line}`, expected was `{wanted}`")))
            }
            None => Err(Error::internal(run.domain, format!("ran `{line}`, nothing was expected"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Run {
        Run::new("sh", Domain::Storage).args(["-c", script])
    }

    #[test]
    fn output_input_and_failure() {
        let mut run = sh("cat; echo err >&2");
        run.input = b"hello".to_vec();
        let output = HostTools.run(&run).expect("ran");
        assert_eq!((output.text().as_str(), output.err.as_slice()), ("hello", &b"err\n"[..]));
        let error = HostTools.run(&sh("echo no >&2; exit 3")).expect_err("failed");
        assert!(
            error.message().ends_with("sh -c 'echo no >&2; exit 3') unexpected exit status 3: no\n"),
            "{error:?}"
        );
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted("/x/é=a,b"), "/x/é=a,b");
        assert_eq!(HostTools.run(&sh("exit 3").also_ok(&[3])).expect("ran").status, 3);
        let error = HostTools.run(&Run::new("no-such-program", Domain::Storage)).expect_err("missing");
        assert!(error.message().contains("no-such-program"));
    }

    #[test]
    fn files_and_hidden_words_reach_a_program_and_nothing_prints_them() {
        use std::io::Seek as _;
        let mut run = sh("cat /dev/fd/3 /dev/fd/4; echo $WORD");
        for text in ["one ", "two "] {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(text.as_bytes()).and_then(|()| file.rewind()).expect("written");
            run.hand(file.into());
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        let to = seen.clone();
        let run = run.hidden("WORD", b"hunter2").watch(move |piece| {
            to.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(piece);
        });
        assert!(!format!("{run:?}").contains("hunter"));
        let output = HostTools.run(&run.tied()).expect("ran");
        assert_eq!(output.text(), "one two hunter2\n");
        assert_eq!(*seen.lock().expect("whole"), output.out);
    }

    #[test]
    fn a_deadline_and_a_cancel_end_a_program_and_its_children() {
        let begun = Instant::now();
        let error =
            HostTools.run(&sh("sleep 60 & wait").deadline(Duration::from_millis(50))).expect_err("late");
        assert_eq!(error.code(), Code::OperationTimeout);
        let cancel = Cancel::default();
        cancel.cancel();
        let error = HostTools.run(&sh("sleep 60").cancel(&cancel)).expect_err("cancelled");
        assert_eq!(error.code(), Code::OperationAborted);
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn recordings_are_held_to_their_order() {
        let tools = RecordedTools::new([("vgs -a".to_string(), Output::default())]).without("lvs");
        assert!(tools.find("lvs").is_none() && tools.find("vgs").is_some());
        let error = tools.run(&Run::new("vgs", Domain::Storage).arg("-b")).expect_err("another command");
        assert!(error.message().contains("expected was `vgs -a`"), "{}", error.message());
    }
}

//! What is asked of `virt-launch`, and its answer.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One process to start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Request {
    /// The program and its arguments; the first is the program's path.
    pub argv: Vec<String>,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Working folder; "/" when unset.
    pub dir: Option<PathBuf>,
    /// Whom to become; unset keeps the daemon's user.
    pub user: Option<User>,
    /// File mode mask.
    pub umask: Option<u32>,
    /// Resource limits.
    pub limits: Vec<Limit>,
    /// `cgroup.procs` files to enter, in order.
    pub cgroups: Vec<PathBuf>,
    /// How the sent descriptors are numbered in the process, in the order they are sent.
    pub keep: Vec<Keep>,
    /// One more descriptor comes last, which the launcher holds until it ends and the process never gets: a lock, by
    /// which a restarted daemon knows that a start is still under way.
    pub lock: bool,
    /// Standard output and error are appended to this file; unset: they are discarded.
    pub log: Option<PathBuf>,
    /// Written with the process's number, without a line end.
    pub pid_file: Option<PathBuf>,
    /// Take every capability away from a process that stays root.
    pub drop_capabilities: bool,
}

impl Request {
    /// How many descriptors come along.
    pub fn descriptors(&self) -> usize {
        self.keep.len() + usize::from(self.lock)
    }
}

/// Numeric identity of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Main group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// The number a descriptor has in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// At least 3.
    pub number: i32,
}

/// One limit, soft and hard alike. `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What is limited.
    pub resource: Resource,
    /// The value in the resource's own unit.
    pub value: Option<u64>,
}

/// What can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resource {
    /// Size of a core file, bytes.
    Core,
    /// Open files.
    Files,
    /// Locked memory, bytes.
    Memlock,
    /// Processes of the user.
    Processes,
}

/// Where a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Reading the request.
    Request,
    /// Opening the log file.
    Log,
    /// Opening or writing the pid file.
    PidFile,
    /// Leaving the daemon's session.
    Session,
    /// Setting a limit.
    Limit,
    /// Entering a cgroup.
    Cgroup,
    /// Changing user, group or capabilities.
    Identity,
    /// Changing to the working folder.
    Folder,
    /// Numbering descriptors.
    Descriptors,
    /// Starting the program.
    Exec,
}

/// A failed start: nothing runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Where.
    pub step: Step,
    /// The system's error number; 0 when it is not the system's error.
    pub errno: i32,
    /// What exactly: a path, a number.
    pub what: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The process's number; a pidfd comes along.
    Started {
        /// Its number.
        pid: i32,
    },
    /// Why nothing runs.
    Failed(Failure),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.step {
            Step::Request => "read the request",
            Step::Log => "open the log file",
            Step::PidFile => "write the pid file",
            Step::Session => "leave the session",
            Step::Limit => "set the limit",
            Step::Cgroup => "enter the cgroup",
            Step::Identity => "become the user",
            Step::Folder => "change to the folder",
            Step::Descriptors => "pass the descriptor",
            Step::Exec => "execute binary",
        };
        write!(f, "cannot {what} {}", self.what)?;
        if self.errno != 0 {
            write!(f, ": {}", std::io::Error::from_raw_os_error(self.errno))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

//! The command line of every daemon: libvirt's options where they make sense, plus `--root`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, Command, value_parser};

use crate::paths::Mode;

/// What the command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Args {
    pub root: Option<PathBuf>,
    pub mode: Mode,
    /// Leave when idle for this long.
    pub timeout: Option<Duration>,
    pub config: Option<PathBuf>,
    pub verbose: bool,
    /// Leave when standard input ends: another daemon of the session has started this one.
    pub companion: bool,
}

/// Parses; the error prints itself (help and version are "errors" too).
pub(crate) fn parse(
    name: &'static str,
    about: &'static str,
    version: &'static str,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Args, clap::Error> {
    let command = Command::new(name)
        .about(about)
        .version(version)
        .arg(
            Arg::new("root")
                .long("root")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Keep everything under DIR: DIR/etc/libvirt, DIR/run/libvirt ..."),
        )
        .arg(
            Arg::new("session")
                .long("session")
                .action(ArgAction::SetTrue)
                .help("Serve the user's own guests, with files in the user's folders"),
        )
        .arg(
            Arg::new("timeout")
                .short('t')
                .long("timeout")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..=86400 * 365))
                .help("Exit after being idle this long"),
        )
        .arg(
            Arg::new("config")
                .short('f')
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Configuration file"),
        )
        .arg(Arg::new("verbose").short('v').long("verbose").action(ArgAction::SetTrue).help("Log more"))
        .arg(Arg::new("companion").long("companion").action(ArgAction::SetTrue).hide(true))
        .arg(Arg::new("daemon").short('d').long("daemon").action(ArgAction::SetTrue).hide(true));
    let matches = command.clone().try_get_matches_from(args)?;
    if matches.get_flag("daemon") {
        let hint = format!(
            "{name} does not put itself into the background.\n\
             Start it by its systemd socket ('systemctl start {name}.socket'), or run '{name} &'.\n"
        );
        return Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, hint));
    }
    let root: Option<PathBuf> = matches.get_one("root").cloned();
    let session = matches.get_flag("session") || is_own(root.is_some(), rustix::process::geteuid().is_root());
    Ok(Args {
        root,
        mode: if session { Mode::Session } else { Mode::System },
        timeout: matches.get_one("timeout").copied().map(Duration::from_secs),
        config: matches.get_one("config").cloned(),
        verbose: matches.get_flag("verbose"),
        companion: matches.get_flag("companion"),
    })
}

/// Whether a daemon that was not told so serves its user alone, as libvirt's do: an ordinary user has no place in the host's
/// own folders.
fn is_own(has_root: bool, is_root: bool) -> bool {
    !has_root && !is_root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_users_daemon_is_his_own() {
        assert!(is_own(false, false));
        assert!(!is_own(false, true) && !is_own(true, false), "the host's, and one in development");
    }

    fn args(line: &str) -> Result<Args, String> {
        let words = std::iter::once("virtxd").chain(line.split_whitespace()).map(OsString::from);
        parse("virtxd", "tests", "1", words).map_err(|e| e.to_string())
    }

    #[test]
    fn understands_libvirts_options() {
        let a = args("--timeout=120 -f /x.conf --session -v").unwrap();
        assert_eq!((a.timeout, a.mode, a.verbose), (Some(Duration::from_secs(120)), Mode::Session, true));
        assert_eq!(a.config, Some("/x.conf".into()));
        assert_eq!(args("-t 5 --root /r").unwrap().root, Some("/r".into()));
    }

    #[test]
    fn refuses_with_a_hint() {
        assert!(args("-d").unwrap_err().contains("systemctl start virtxd.socket"));
        assert!(args("--timeout 0").is_err() && args("--nosuch").is_err());
    }
}

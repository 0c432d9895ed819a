//! Logs: to the journal under systemd, else to stderr, by libvirt's own levels and keys.

use std::fs::OpenOptions;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;
use virt_error::{Code, Domain, Error, Result};

use crate::conf::Conf;

/// What the configuration says about logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// For tracing's filter: a level, then `target=level` pairs.
    filter: String,
    output: Output,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Output {
    /// The journal if systemd reads our stderr, else stderr.
    Auto,
    Journal,
    Stderr,
    File(PathBuf),
}

/// Reads `log_level`, `log_filters` and `log_outputs`; `--verbose` raises the level to information.
pub(crate) fn plan(conf: &Conf, verbose: bool) -> Result<Plan> {
    // libvirt: 1 debug, 2 information, 3 warning, 4 error; 0 or unset is 3.
    let level = conf.uint("log_level")?.unwrap_or(0);
    let level = match (level, verbose) {
        (0, false) => "warn",
        (0, true) => "info",
        (level, _) => level_name(level).ok_or_else(|| bad(conf, "log_level", &level.to_string()))?,
    };
    let mut filter = level.to_string();
    for part in conf.string("log_filters")?.unwrap_or_default().split_whitespace() {
        let (level, target) = part.split_once(':').ok_or_else(|| bad(conf, "log_filters", part))?;
        let level = level.parse().ok().and_then(level_name).ok_or_else(|| bad(conf, "log_filters", part))?;
        let target = target.trim_start_matches('+').replace(['.', '-'], "_");
        if target.is_empty() || !target.chars().all(|c| c.is_alphanumeric() || c == '_') {
            return Err(bad(conf, "log_filters", part));
        }
        filter.push_str(&format!(",{target}={level}"));
    }
    let output = conf.string("log_outputs")?.unwrap_or_default();
    let output = match output.split_whitespace().collect::<Vec<_>>()[..] {
        [] => Output::Auto,
        [one] => parse_output(one).ok_or_else(|| bad(conf, "log_outputs", one))?,
        _ => return Err(bad(conf, "log_outputs", "only one output is supported")),
    };
    Ok(Plan { filter, output })
}

fn parse_output(text: &str) -> Option<Output> {
    // LEVEL:KIND[:MORE]; the level is that of the filter here.
    let mut parts = text.splitn(3, ':');
    level_name(parts.next()?.parse().ok()?)?;
    match (parts.next()?, parts.next()) {
        ("stderr", None) => Some(Output::Stderr),
        ("journald", None) => Some(Output::Journal),
        ("file", Some(path)) if path.starts_with('/') => Some(Output::File(path.into())),
        _ => None,
    }
}

fn level_name(level: u64) -> Option<&'static str> {
    Some(match level {
        1 => "debug",
        2 => "info",
        3 => "warn",
        4 => "error",
        _ => return None,
    })
}

fn bad(conf: &Conf, key: &str, value: &str) -> Error {
    let text = format!("{}: '{value}' is not a good value for '{key}'", conf.path().display());
    Error::new(Code::ConfSyntax, Domain::Conf, text)
}

/// Starts logging. Called once.
pub(crate) fn start(name: &'static str, plan: &Plan) -> Result<()> {
    let filter = EnvFilter::new(&plan.filter);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match &plan.output {
        Output::File(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.map_err(|e| {
                Error::system(Domain::None, format!("cannot open log file '{}'", path.display()), e)
            })?;
            Box::new(fmt::layer().with_ansi(false).with_writer(std::sync::Arc::new(file)))
        }
        Output::Stderr => stderr(),
        Output::Journal => journal(name).unwrap_or_else(stderr),
        Output::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => journal(name).unwrap_or_else(stderr),
        Output::Auto => stderr(),
    };
    let started = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    started.map_err(|e| Error::internal(Domain::None, "cannot start logging").with_source(e))
}

fn stderr() -> Box<dyn Layer<Registry> + Send + Sync> {
    Box::new(fmt::layer().with_ansi(false).with_writer(std::io::stderr))
}

fn journal(name: &str) -> Option<Box<dyn Layer<Registry> + Send + Sync>> {
    let layer = tracing_journald::layer().ok()?.with_syslog_identifier(name.to_string());
    Some(Box::new(layer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(text: &str, verbose: bool) -> Result<Plan> {
        plan(&Conf::parse("x.conf", text)?, verbose)
    }

    #[test]
    fn keys_are_libvirts() {
        assert_eq!(planned("", false).unwrap().filter, "warn");
        assert_eq!(planned("", true).unwrap().filter, "info");
        let p = planned(
            "log_level = 1\nlog_filters = \"4:virt_rpc 1:qemu.monitor\"\nlog_outputs=\"3:file:/x\"",
            true,
        );
        let p = p.unwrap();
        assert_eq!(p.filter, "debug,virt_rpc=error,qemu_monitor=debug");
        assert_eq!(p.output, Output::File("/x".into()));
        for wrong in
            ["log_level = 9", "log_filters = \"x\"", "log_filters = \"1:a=b\"", "log_outputs = \"1:mail\""]
        {
            assert_eq!(planned(wrong, false).unwrap_err().code(), Code::ConfSyntax, "{wrong}");
        }
    }
}

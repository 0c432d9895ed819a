//! `<firewall>` of a status file: what takes a network's rules away again. Whoever takes a host over, the reference from us or
//! we from the reference, runs it once its own rules are made.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use virt_error::{Domain, Error, Result};
use virt_model::network::Network;
use virt_xml::{El, Writer, Xml};

use super::{Family, TABLE, removal, rules};

/// How long one command may take.
const WAIT: Duration = Duration::from_secs(10);
/// Commands of one network at most.
const MOST: usize = 4096;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// The IP version it is for.
    pub family: Family,
    /// What follows the program's name.
    pub args: Vec<String>,
}

/// The commands of one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// "nftables" or "iptables".
    pub backend: String,
    /// In the order they run.
    pub actions: Vec<Action>,
}

impl Removal {
    /// For a network whose rules are in this table.
    pub fn of(table: &str, net: &Network) -> Self {
        let rules = rules(net, &[]);
        let bridge = net.bridge.name.as_deref().unwrap_or_default();
        let families = [Family::V4, Family::V6].into_iter().filter(|f| rules.iter().any(|r| r.family == *f));
        let actions = families.flat_map(|family| {
            removal(table, family, bridge).into_iter().map(move |args| Action { family, args })
        });
        Self { backend: "nftables".into(), actions: actions.collect() }
    }

    /// Whether the rules are those of a daemon of ours.
    fn ours(&self) -> bool {
        self.actions.iter().all(|a| a.args.iter().any(|word| word.starts_with(TABLE)))
    }

    /// Runs the commands, if the rules are not ours. What fails is logged: mostly the rule is gone already.
    pub async fn run(&self) {
        if self.ours() {
            return;
        }
        for action in &self.actions {
            if let Err(error) = run(&self.backend, action).await {
                tracing::debug!(%error, "taking away a rule of the network's former owner");
            }
        }
    }
}

async fn run(backend: &str, action: &Action) -> Result<()> {
    let removes = |word: &str| action.args.iter().any(|a| a == word);
    let (program, first): (&str, &[&str]) = match (backend, action.family) {
        ("iptables", Family::V4) if removes("--delete") => ("iptables", &["-w"]),
        ("iptables", Family::V6) if removes("--delete") => ("ip6tables", &["-w"]),
        ("nftables", _) if removes("delete") => ("nft", &[]),
        _ => return Err(Error::internal(Domain::Firewall, "the command takes no rule away")),
    };
    let failed = |e| Error::system(Domain::Firewall, format!("cannot run {program}"), e);
    let mut command = Command::new(program);
    command.args(first).args(&action.args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let done = tokio::time::timeout(WAIT, command.output()).await;
    let done =
        done.map_err(|_| Error::internal(Domain::Firewall, format!("{program} did not end in time")))?;
    let done = done.map_err(failed)?;
    let said = String::from_utf8_lossy(&done.stderr).trim().to_string();
    if done.status.success() { Ok(()) } else { Err(Error::internal(Domain::Firewall, said)) }
}

impl Xml for Removal {
    fn read(e: El<'_>) -> Result<Self> {
        let mut actions = Vec::new();
        for action in e.children_named("group").flat_map(|g| g.children_named("action").collect::<Vec<_>>()) {
            let family = match action.attr("layer") {
                Some("ipv4") => Family::V4,
                Some("ipv6") => Family::V6,
                // Rules of bridges are not made for networks.
                _ => continue,
            };
            let words =
                action.child("args").into_iter().flat_map(|a| a.children_named("item").collect::<Vec<_>>());
            actions.push(Action { family, args: words.map(|i| i.text().to_string()).collect() });
            if actions.len() > MOST {
                return Err(Error::internal(Domain::Network, "status file has too many firewall actions"));
            }
        }
        Ok(Self { backend: e.attr("backend").unwrap_or("iptables").to_string(), actions })
    }

    fn write_attrs(&self, w: &mut Writer) {
        w.attr("name", "fwRemoval");
        w.attr("backend", &self.backend);
    }

    fn write_children(&self, w: &mut Writer) {
        w.start("group");
        w.attr("ignoreErrors", "yes");
        for action in &self.actions {
            w.start("action");
            w.attr("layer", if action.family == Family::V4 { "ipv4" } else { "ipv6" });
            w.start("args");
            for word in &action.args {
                w.start("item");
                w.text(word);
                w.end();
            }
            w.end();
            w.end();
        }
        w.end();
    }
}

//! Limits of virtproxyd.conf, under the names libvirtd.conf has.
//!
//! `min_workers`, `max_workers` and `prio_workers` are accepted and change nothing: calls cost no thread here, what runs
//! at a time is bounded by `max_clients` and `max_client_requests`.

use std::time::Duration;

use virt_daemon::Conf;
use virt_error::Result;

/// How long a client may stay without having asked for the authentication list.
const UNAUTHENTICATED: Duration = Duration::from_secs(30);

/// What one proxy and one client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Clients at a time; read-only and read-write sockets are counted apart, so that one cannot shut out the other.
    pub clients: usize,
    /// Clients that are not authenticated; beyond this the oldest of them is dropped.
    pub anonymous: usize,
    /// Calls of one client at a time; more wait in its socket.
    pub client_requests: usize,
    /// A client that is not authenticated by then is dropped.
    pub unauthenticated: Duration,
    /// Idle time before a ping; `None` never pings.
    pub keepalive_interval: Option<Duration>,
    /// Pings without any sign of life before the client is dropped.
    pub keepalive_count: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 5000,
            anonymous: 20,
            client_requests: 5,
            unauthenticated: UNAUTHENTICATED,
            keepalive_interval: Some(Duration::from_secs(5)),
            keepalive_count: 5,
        }
    }
}

impl Limits {
    /// From the configuration; 0 means "no limit" only where the reference says so (`max_anonymous_clients`).
    pub fn from_conf(conf: &Conf) -> Result<Self> {
        let default = Self::default();
        let count = |key, fallback: usize| -> Result<usize> {
            Ok(conf.uint(key)?.map_or(fallback, |n| usize::try_from(n).unwrap_or(usize::MAX)))
        };
        let some = |n: usize| n.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        let anonymous = match count("max_anonymous_clients", default.anonymous)? {
            0 => usize::MAX,
            n => n,
        };
        let keepalive_interval = match conf.int("keepalive_interval")? {
            None => default.keepalive_interval,
            Some(seconds) => u64::try_from(seconds).ok().filter(|s| *s > 0).map(Duration::from_secs),
        };
        let keepalive_count = conf.uint("keepalive_count")?.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        Ok(Self {
            clients: some(count("max_clients", default.clients)?),
            anonymous,
            client_requests: some(count("max_client_requests", default.client_requests)?),
            unauthenticated: default.unauthenticated,
            keepalive_interval,
            keepalive_count: keepalive_count.unwrap_or(default.keepalive_count),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Result<Limits> {
        Limits::from_conf(&Conf::parse("x.conf", text).unwrap())
    }

    #[test]
    fn defaults_are_the_references() {
        assert_eq!(limits("").unwrap(), Limits::default());
        assert_eq!(limits("max_workers = 3").unwrap(), Limits::default());
    }

    #[test]
    fn values_are_read_and_bounded() {
        let l = limits("max_clients = 7\nmax_client_requests = 0\nmax_anonymous_clients = 0").unwrap();
        assert_eq!((l.clients, l.client_requests, l.anonymous), (7, 1, usize::MAX));
        assert_eq!(limits("keepalive_interval = -1").unwrap().keepalive_interval, None);
        assert!(limits("max_clients = \"many\"").is_err());
    }
}

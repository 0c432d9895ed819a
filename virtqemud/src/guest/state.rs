//! What a guest does, why, and which changes are legal. Numbers and names are libvirt's.
//!
//! ```text
//!                    start                    cont
//!      +---------+ --------> Paused      ------------> +---------+
//!      | Shutoff |        (starting up)                | Running | <--+ reset, guest reboot
//!      +---------+ <-+                                 +---------+ ---+
//!        ^     ^     | start failed               suspend |   ^ resume
//!        |     |     |                                    v   |
//!        |     |     +----------------------------------- Paused (user, I/O error, watchdog ...)
//!        |     |                                           |
//!        |     |  destroy, QEMU ended        guest off     |  guest suspends itself
//!        |     +------------------------- Shutdown <-------+------> PmSuspended --wakeup--> Running
//!        |                            (fake reboot: --> Running)
//!        |  destroy                                         guest panics, on_crash=preserve
//!        +------------------------- Crashed <------------------- Running
//! ```

use virt_api::domain::v1alpha1 as api;

macro_rules! reasons {
    ($($(#[$doc:meta])* $type:ident { $($variant:ident = $number:literal $name:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum $type { $($variant = $number),* }

        impl $type {
            /// The word of status files and logs.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The reason with this word.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    )*};
}

reasons! {
    /// Why a guest runs.
    Running {
        Unknown = 0 "unknown", Booted = 1 "booted", Migrated = 2 "migrated", Restored = 3 "restored",
        FromSnapshot = 4 "from snapshot", Unpaused = 5 "unpaused", MigrationCanceled = 6 "migration canceled",
        SaveCanceled = 7 "save canceled", Wakeup = 8 "wakeup", Crashed = 9 "crashed", Postcopy = 10 "post-copy",
        PostcopyFailed = 11 "post-copy failed",
    }
    /// Why a guest's processors stand still.
    Paused {
        Unknown = 0 "unknown", User = 1 "user", Migration = 2 "migration", Save = 3 "save", Dump = 4 "dump",
        IoError = 5 "ioerror", Watchdog = 6 "watchdog", FromSnapshot = 7 "from snapshot",
        ShuttingDown = 8 "shutdown", Snapshot = 9 "snapshot", Crashed = 10 "panicked",
        StartingUp = 11 "starting up", Postcopy = 12 "post-copy", PostcopyFailed = 13 "post-copy failed",
        ApiError = 14 "api error",
    }
    /// Who shut a guest down whose process still exists.
    Shutdown { Unknown = 0 "unknown", User = 1 "user" }
    /// Why a guest does not run.
    Shutoff {
        Unknown = 0 "unknown", Shutdown = 1 "shutdown", Destroyed = 2 "destroyed", Crashed = 3 "crashed",
        Migrated = 4 "migrated", Saved = 5 "saved", Failed = 6 "failed", FromSnapshot = 7 "from snapshot",
        Daemon = 8 "daemon",
    }
    /// Why a guest is kept although it is dead.
    Crashed { Unknown = 0 "unknown", Panicked = 1 "panicked" }
}

/// A guest's state with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its processors run.
    Running(Running),
    /// Its processors stand still.
    Paused(Paused),
    /// It has powered itself off; its process still exists.
    Shutdown(Shutdown),
    /// It has no process.
    Shutoff(Shutoff),
    /// It panicked and is kept for inspection.
    Crashed(Crashed),
    /// It suspended itself to memory.
    PmSuspended,
}

/// A state without its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Running,
    Paused,
    Shutdown,
    Shutoff,
    Crashed,
    PmSuspended,
}

impl State {
    /// Without the reason.
    pub fn kind(self) -> Kind {
        match self {
            Self::Running(_) => Kind::Running,
            Self::Paused(_) => Kind::Paused,
            Self::Shutdown(_) => Kind::Shutdown,
            Self::Shutoff(_) => Kind::Shutoff,
            Self::Crashed(_) => Kind::Crashed,
            Self::PmSuspended => Kind::PmSuspended,
        }
    }

    /// Whether the guest has a process, which is what libvirt calls active.
    pub fn is_active(self) -> bool {
        self.kind() != Kind::Shutoff
    }

    /// virDomainState's number and the number of the reason.
    pub fn numbers(self) -> (api::State, i32) {
        match self {
            Self::Running(r) => (api::State::Running, r as i32),
            Self::Paused(r) => (api::State::Paused, r as i32),
            Self::Shutdown(r) => (api::State::Shutdown, r as i32),
            Self::Shutoff(r) => (api::State::Shutoff, r as i32),
            Self::Crashed(r) => (api::State::Crashed, r as i32),
            Self::PmSuspended => (api::State::Pmsuspended, 0),
        }
    }

    /// The words of a status file: state and reason.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Running(r) => ("running", r.name()),
            Self::Paused(r) => ("paused", r.name()),
            Self::Shutdown(r) => ("shutdown", r.name()),
            Self::Shutoff(r) => ("shutoff", r.name()),
            Self::Crashed(r) => ("crashed", r.name()),
            Self::PmSuspended => ("pmsuspended", "unknown"),
        }
    }

    /// From the words of a status file; an unknown reason reads as "unknown", an unknown state as `None`.
    pub fn from_names(state: &str, reason: &str) -> Option<Self> {
        Some(match state {
            "running" | "blocked" | "idle" => {
                Self::Running(Running::from_name(reason).unwrap_or(Running::Unknown))
            }
            "paused" => Self::Paused(Paused::from_name(reason).unwrap_or(Paused::Unknown)),
            "shutdown" => Self::Shutdown(Shutdown::from_name(reason).unwrap_or(Shutdown::Unknown)),
            "shutoff" => Self::Shutoff(Shutoff::from_name(reason).unwrap_or(Shutoff::Unknown)),
            "crashed" => Self::Crashed(Crashed::from_name(reason).unwrap_or(Crashed::Unknown)),
            "pmsuspended" => Self::PmSuspended,
            _ => return None,
        })
    }

    /// Whether a guest may go from this state to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use Kind::{Crashed, Paused, PmSuspended, Running, Shutdown, Shutoff};
        match (self.kind(), next.kind()) {
            // Only a start leaves this state, and it begins with standing processors.
            (Shutoff, Paused) => true,
            (Shutoff, Running | Shutdown | Shutoff | Crashed | PmSuspended) => false,
            // The process may end at any time.
            (Running | Paused | Shutdown | Crashed | PmSuspended, Shutoff) => true,
            // A changed reason, a reset.
            (Running, Running) | (Paused, Paused) => true,
            (Running, Paused | Shutdown | Crashed | PmSuspended) => true,
            (Paused, Running | Shutdown | Crashed) => true,
            (Paused, PmSuspended) => false,
            // A fake reboot resets the machine; it may be paused meanwhile.
            (Shutdown, Running | Paused) => true,
            (Shutdown, Shutdown | Crashed | PmSuspended) => false,
            (PmSuspended, Running | Paused | Shutdown) => true,
            (PmSuspended, Crashed | PmSuspended) => false,
            // A preserved guest can be reset and resumed.
            (Crashed, Running | Paused) => true,
            (Crashed, Shutdown | Crashed | PmSuspended) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [State; 6] = [
        State::Running(Running::Booted),
        State::Paused(Paused::User),
        State::Shutdown(Shutdown::User),
        State::Shutoff(Shutoff::Destroyed),
        State::Crashed(Crashed::Panicked),
        State::PmSuspended,
    ];

    #[test]
    fn numbers_and_names_are_libvirts() {
        assert_eq!(State::Paused(Paused::StartingUp).numbers(), (api::State::Paused, 11));
        assert_eq!(State::Shutoff(Shutoff::Destroyed).names(), ("shutoff", "destroyed"));
        for state in ALL {
            let (name, reason) = state.names();
            assert_eq!(State::from_names(name, reason), Some(state));
        }
        assert_eq!(State::from_names("running", "new reason"), Some(State::Running(Running::Unknown)));
        assert_eq!(State::from_names("dancing", "booted"), None);
    }

    #[test]
    fn every_active_state_can_end_and_only_a_start_begins() {
        for state in ALL {
            assert_eq!(state.may_become(State::Shutoff(Shutoff::Crashed)), state.is_active(), "{state:?}");
        }
        let begun: Vec<_> = ALL.iter().filter(|s| State::Shutoff(Shutoff::Unknown).may_become(**s)).collect();
        assert_eq!(begun, [&State::Paused(Paused::User)]);
    }
}

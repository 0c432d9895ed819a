//! What happens when the guest powers off, reboots or crashes.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::tuning::LifecycleAction;

/// `virDomainLifecycle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The guest powers off.
    Poweroff,
    /// The guest reboots.
    Reboot,
    /// The guest crashes.
    Crash,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Poweroff => "poweroff",
            Self::Reboot => "reboot",
            Self::Crash => "crash",
        }
    }
}

/// Event and action from the API's numbers, checked against each other and against what QEMU guests can do.
///
/// # Errors
/// Code 8 for unknown numbers, code 67 for an action that the event or QEMU does not have.
pub fn read(event: u32, action: u32) -> Result<(Event, LifecycleAction)> {
    use LifecycleAction::{CoredumpDestroy, CoredumpRestart, Preserve, RenameRestart};
    let event = match event {
        0 => Event::Poweroff,
        1 => Event::Reboot,
        2 => Event::Crash,
        _ => {
            return Err(Error::new(
                Code::InvalidArg,
                From::Domain,
                format!("invalid lifecycle type '{event}'"),
            ));
        }
    };
    let Some((_, action)) = LifecycleAction::ALL.get(action as usize) else {
        return Err(Error::new(
            Code::InvalidArg,
            From::Domain,
            format!("invalid lifecycle action '{action}'"),
        ));
    };
    let unsupported = |domain, text: String| Err(Error::new(Code::ConfigUnsupported, domain, text));
    match (event, *action) {
        (Event::Poweroff | Event::Reboot, CoredumpDestroy | CoredumpRestart) => {
            let text = format!("Lifecycle event '{}' doesn't support '{action}' action", event.name());
            unsupported(From::Domain, text)
        }
        (_, RenameRestart) => {
            let text = "qemu driver doesn't support the 'rename-restart' action for 'on_reboot'/'on_poweroff'/'on_crash'";
            unsupported(From::Qemu, text.to_string())
        }
        (Event::Poweroff | Event::Reboot, Preserve) => {
            let text = "qemu driver doesn't support the 'preserve' action for 'on_reboot'/'on_poweroff'";
            unsupported(From::Qemu, text.to_string())
        }
        (event, action) => Ok((event, action)),
    }
}

/// Sets the action of an event.
pub fn set(domain: &mut Domain, event: Event, action: LifecycleAction) {
    let field = match event {
        Event::Poweroff => &mut domain.on_poweroff,
        Event::Reboot => &mut domain.on_reboot,
        Event::Crash => &mut domain.on_crash,
    };
    *field = Some(action);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_qemu_guests_can_do() {
        let (event, action) = read(1, 0).unwrap();
        let mut domain = Domain::default();
        set(&mut domain, event, action);
        assert_eq!(domain.on_reboot, Some(LifecycleAction::Destroy));
        for (event, action) in [(9, 1), (0, 9), (1, 4), (0, 2), (0, 3)] {
            assert!(read(event, action).is_err(), "{event} {action}");
        }
        assert!(read(2, 4).is_ok() && read(2, 3).is_ok());
        let text = read(1, 4).unwrap_err().message();
        assert_eq!(
            text,
            "unsupported configuration: Lifecycle event 'reboot' doesn't support 'coredump-destroy' action"
        );
    }
}

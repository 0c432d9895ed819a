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

/// Event and action from the API's numbers, checked against each other.
///
/// # Errors
/// Code 8 for unknown numbers, code 67 for an action that the event does not have.
pub fn read(event: u32, action: u32) -> Result<(Event, LifecycleAction)> {
    use LifecycleAction::{CoredumpDestroy, CoredumpRestart};
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
    if event != Event::Crash && matches!(action, CoredumpDestroy | CoredumpRestart) {
        let text = format!("Lifecycle event '{}' doesn't support '{action}' action", event.name());
        return Err(Error::new(Code::ConfigUnsupported, From::Domain, text));
    }
    Ok((event, *action))
}

/// Checks a document's actions against what QEMU guests can do.
///
/// # Errors
/// Code 67 for an action that QEMU guests do not have, or two that exclude each other.
pub fn check(domain: &Domain) -> Result<()> {
    use LifecycleAction::{Destroy, Preserve, RenameRestart, Restart};
    let (off, reboot) = (domain.on_poweroff, domain.on_reboot);
    let text = if [off, reboot, domain.on_crash].contains(&Some(RenameRestart)) {
        "qemu driver doesn't support the 'rename-restart' action for 'on_reboot'/'on_poweroff'/'on_crash'"
    } else if [off, reboot].contains(&Some(Preserve)) {
        "qemu driver doesn't support the 'preserve' action for 'on_reboot'/'on_poweroff'"
    } else if reboot == Some(Destroy) && off == Some(Restart) {
        "qemu driver doesn't support 'onReboot' set to 'destroy and 'onPoweroff' set to 'reboot'"
    } else {
        return Ok(());
    };
    Err(Error::new(Code::ConfigUnsupported, From::Qemu, text))
}

/// Sets the action of an event.
///
/// # Errors
/// As [`check`]; nothing is changed then.
pub fn set(domain: &mut Domain, event: Event, action: LifecycleAction) -> Result<()> {
    let field = match event {
        Event::Poweroff => &mut domain.on_poweroff,
        Event::Reboot => &mut domain.on_reboot,
        Event::Crash => &mut domain.on_crash,
    };
    let old = field.replace(action);
    let checked = check(domain);
    if checked.is_err() {
        match event {
            Event::Poweroff => domain.on_poweroff = old,
            Event::Reboot => domain.on_reboot = old,
            Event::Crash => domain.on_crash = old,
        }
    }
    checked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_qemu_guests_can_do() {
        let mut domain = Domain::default();
        let mut told = |event, action| {
            let (event, action) = read(event, action).map_err(|e| e.message())?;
            set(&mut domain, event, action).map_err(|e| e.message())
        };
        assert_eq!(told(1, 0), Ok(()));
        for (event, action) in [(9, 1), (0, 9), (1, 4), (0, 2), (0, 3), (2, 2)] {
            assert!(told(event, action).is_err(), "{event} {action}");
        }
        for (event, action) in [(2, 4), (2, 3), (0, 0)] {
            assert_eq!(told(event, action), Ok(()), "{event} {action}");
        }
        let text =
            "unsupported configuration: Lifecycle event 'reboot' doesn't support 'coredump-destroy' action";
        assert_eq!(told(1, 4), Err(text.into()));
        // A reboot that ends the guest would end the restart after a power off as well.
        let text = "unsupported configuration: qemu driver doesn't support 'onReboot' set to 'destroy and \
                    'onPoweroff' set to 'reboot'";
        assert_eq!(told(0, 1), Err(text.into()));
        assert_eq!((told(1, 1), told(0, 1)), (Ok(()), Ok(())));
        assert_eq!(told(1, 0), Err(text.into()));
        assert_eq!(
            (domain.on_poweroff, domain.on_reboot),
            (Some(LifecycleAction::Restart), Some(LifecycleAction::Restart))
        );
    }
}

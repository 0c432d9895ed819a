//! I/O threads of a configuration.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::vcpu::Iothread;

/// Numbers of the threads there are, ascending as they are kept.
pub fn ids(domain: &Domain) -> Vec<u32> {
    if domain.iothreadids.iothreads.is_empty() {
        return (1..=domain.iothreads.unwrap_or(0)).collect();
    }
    domain.iothreadids.iothreads.iter().map(|t| t.id).collect()
}

/// Adds a thread.
///
/// # Errors
/// Code 8 for number 0 or one that is taken.
pub fn add(domain: &mut Domain, id: u32) -> Result<()> {
    if id == 0 {
        let text = "invalid value of 0 for iothread_id";
        return Err(Error::new(Code::InvalidArg, From::Qemu, text));
    }
    if ids(domain).contains(&id) {
        let text = format!("an IOThread is already using iothread_id '{id}'");
        return Err(Error::new(Code::InvalidArg, From::Domain, text));
    }
    spell_out(domain);
    domain.iothreadids.iothreads.push(Iothread { id, ..Iothread::default() });
    count(domain);
    Ok(())
}

/// Takes a thread out, with its pins and schedules.
///
/// # Errors
/// Code 8 when there is none of this number, code 67 when a disk or controller uses it.
pub fn remove(domain: &mut Domain, id: u32) -> Result<()> {
    if !ids(domain).contains(&id) {
        let text = format!("cannot find IOThread '{id}' in iothreadids list");
        return Err(Error::new(Code::InvalidArg, From::Domain, text));
    }
    let users = domain.devices.disks.iter().filter(|d| d.driver.iothread == Some(id));
    if let Some(disk) = users.clone().next() {
        let target = disk.target.dev.as_deref().unwrap_or_default();
        let text = format!("cannot remove IOThread {id} since it is being used by disk '{target}'");
        return Err(Error::new(Code::InvalidArg, From::Qemu, text));
    }
    spell_out(domain);
    domain.iothreadids.iothreads.retain(|t| t.id != id);
    domain.cputune.iothreadpins.retain(|p| p.iothread != id);
    count(domain);
    Ok(())
}

/// The numbers are written out as soon as one was chosen by hand.
pub(super) fn spell_out(domain: &mut Domain) {
    let ids = ids(domain);
    if domain.iothreadids.iothreads.is_empty() {
        domain.iothreadids.iothreads =
            ids.into_iter().map(|id| Iothread { id, ..Iothread::default() }).collect();
    }
}

fn count(domain: &mut Domain) {
    let count = u32::try_from(domain.iothreadids.iothreads.len()).unwrap_or(u32::MAX);
    domain.iothreads = (count > 0).then_some(count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_and_freed() {
        let mut d = Domain { iothreads: Some(1), ..Domain::default() };
        assert!(add(&mut d, 1).is_err() && add(&mut d, 0).is_err());
        add(&mut d, 5).unwrap();
        assert_eq!((ids(&d), d.iothreads), (vec![1, 5], Some(2)));
        remove(&mut d, 1).unwrap();
        remove(&mut d, 5).unwrap();
        assert_eq!((ids(&d), d.iothreads), (vec![], None));
        let text = remove(&mut d, 9).unwrap_err().message();
        assert_eq!(text, "invalid argument: cannot find IOThread '9' in iothreadids list");
    }
}

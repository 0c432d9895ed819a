//! A guest's control group: where it is, and how a value gets into it.

use virt_error::{Code, Domain as From, Error, Result};
use virt_host::cgroup::{Group, Refused};
use virt_model::domain::Domain;
use virt_object::undo::Undo;

use super::paths::short_name;
use crate::driver::Driver;

/// The reference's partition for guests whose document names none.
pub const DEFAULT: &str = "/machine";

/// Makes the group of a guest that is being started.
///
/// # Errors
/// Code 67 for a partition that is no path or that a user's daemon cannot use, code 38 when it is missing (libvirt makes
/// none, and neither do we) or the group cannot be made.
pub fn create(driver: &Driver, live: &Domain, undo: &mut Undo) -> Result<Group> {
    let name = live.name.as_deref().unwrap_or_default();
    if let Some(wanted) = live.resource.partition.as_deref().filter(|p| *p != DEFAULT) {
        let unsupported = |text| Err(Error::new(Code::ConfigUnsupported, From::Domain, text));
        if !wanted.starts_with('/') {
            return unsupported(format!("Resource partition '{wanted}' must start with '/'"));
        }
        if driver.partition.is_none() {
            return unsupported("Resource partitions are not available in session mode".to_string());
        }
        if let Some((version, dir)) = driver.cgroups.missing(&partition(driver, live)) {
            let text = format!("Failed to create v{version} cgroup '{}/'", dir.display());
            return Err(Error::system(From::Cgroup, text, std::io::ErrorKind::NotFound.into()));
        }
    }
    let group = driver
        .cgroups
        .create(&partition(driver, live), &group_name(live.id.unwrap_or(-1), name))
        .map_err(|e| Error::system(From::Cgroup, format!("Unable to create cgroup for {name}"), e))?;
    let made = group.clone();
    undo.add_async("control group", move || super::kill::remove_group(made));
    Ok(group)
}

/// The group of a running guest.
pub fn of(driver: &Driver, live: &Domain) -> Group {
    let name = live.name.as_deref().unwrap_or_default();
    driver.cgroups.locate(&partition(driver, live), &group_name(live.id.unwrap_or(-1), name))
}

/// The guest's partition as the host has it.
fn partition(driver: &Driver, live: &Domain) -> String {
    let own = driver.partition.as_deref().unwrap_or_default();
    match live.resource.partition.as_deref() {
        Some(path) if path != DEFAULT && driver.partition.is_some() => on_host(path),
        _ => own.to_string(),
    }
}

/// "/machine/a" is "/machine/a.partition" (cgroups.html): all parts but the default one have the suffix.
fn on_host(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != "." && *part != "..");
    let named = parts.enumerate().map(|(at, part)| match (at, part) {
        (0, "machine") => "/machine".to_string(),
        _ => format!("/{part}.partition"),
    });
    named.collect()
}

/// The reference's name of a guest's control group without a service manager.
fn group_name(id: i32, name: &str) -> String {
    // A slash would change the meaning of the path.
    format!("qemu-{}.libvirt-qemu", short_name(id, name).replace('/', "-"))
}

/// Writes a value into a guest's group: to the first of `files` that it has.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn write(group: &Group, controller: &str, files: &[&str], value: &str) -> Result<()> {
    group.write(controller, files, value).map_err(|Refused { path, value, cause }| {
        let invalid = cause.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error());
        let text = match path.file_name() {
            Some(file) if invalid => format!("Invalid value '{value}' for '{}'", file.to_string_lossy()),
            _ => format!("Unable to write to '{}'", path.display()),
        };
        Error::system(From::Cgroup, text, cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_partitions_are_named_as_libvirts() {
        assert_eq!(group_name(1, "a/b"), "qemu-1-a-b.libvirt-qemu");
        assert_eq!(
            on_host("/machine/engineering/testing"),
            "/machine/engineering.partition/testing.partition"
        );
        assert_eq!(on_host("/other"), "/other.partition");
        assert_eq!(on_host("/machine/../../x"), "/machine/x.partition");
    }
}

//! Two pools must not have the same source: each would change what the other believes.

use virt_error::{Code, Domain, Error, Result};
use virt_model::storage::source::PoolSource;
use virt_model::storage::{Pool, PoolType};

/// Refuses a document whose source is another pool's.
///
/// # Errors
/// Code 9 with the other pool's name.
pub fn check<'a>(new: &Pool, others: impl Iterator<Item = &'a Pool>) -> Result<()> {
    for other in others.filter(|other| other.uuid != new.uuid || other.name != new.name) {
        if same(new, other) {
            let text = format!("Storage source conflict with pool: '{}'", other.name());
            return Err(Error::new(Code::OperationFailed, Domain::Storage, text));
        }
    }
    Ok(())
}

fn same(a: &Pool, b: &Pool) -> bool {
    let (x, y) = (&*a.source, &*b.source);
    match (a.kind, b.kind) {
        (PoolType::Dir, PoolType::Dir) => a.path() == b.path(),
        // A gluster volume mounted by netfs is another way in, not another pool's ground.
        (PoolType::Netfs, PoolType::Netfs) => same_host(x, y) && x.dir == y.dir && x.format == y.format,
        (PoolType::Gluster, PoolType::Gluster) => same_host(x, y) && x.name == y.name && x.dir == y.dir,
        (PoolType::Rbd, PoolType::Rbd) | (PoolType::Sheepdog, PoolType::Sheepdog) => {
            same_host(x, y) && x.name == y.name
        }
        (PoolType::Iscsi | PoolType::IscsiDirect, PoolType::Iscsi | PoolType::IscsiDirect) => {
            same_host(x, y) && x.device() == y.device() && x.initiator == y.initiator
        }
        (PoolType::Scsi, PoolType::Scsi) => x.adapter.is_some() && x.adapter == y.adapter,
        (PoolType::Zfs, PoolType::Zfs) | (PoolType::Vstorage, PoolType::Vstorage) => x.name == y.name,
        (PoolType::Mpath, PoolType::Mpath) => true,
        (PoolType::Logical, PoolType::Logical) => x.name == y.name || shares_device(x, y),
        (
            PoolType::Fs | PoolType::Logical | PoolType::Disk,
            PoolType::Fs | PoolType::Logical | PoolType::Disk,
        ) => shares_device(x, y),
        _ => false,
    }
}

fn shares_device(a: &PoolSource, b: &PoolSource) -> bool {
    a.devices.iter().any(|d| b.devices.iter().any(|o| o.path == d.path))
}

fn same_host(a: &PoolSource, b: &PoolSource) -> bool {
    let (Some(x), Some(y)) = (a.hosts.first(), b.hosts.first()) else { return false };
    a.hosts.len() == b.hosts.len() && x.name == y.name && x.port == y.port
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, kind: &str, source: &str, target: &str) -> Pool {
        let xml = format!(
            "<pool type='{kind}'><name>{name}</name><source>{source}</source><target><path>{target}</path></target></pool>"
        );
        Pool::parse(&xml).unwrap()
    }

    #[test]
    fn sources_are_compared_by_kind() {
        let dir = pool("a", "dir", "", "/x");
        assert!(check(&pool("b", "dir", "", "/x/"), [&dir].into_iter()).is_err());
        assert!(check(&pool("b", "dir", "", "/y"), [&dir].into_iter()).is_ok());
        assert!(check(&pool("a", "dir", "", "/x"), [&dir].into_iter()).is_ok(), "itself");
        let nfs = |name: &str, host: &str| {
            pool(name, "netfs", &format!("<host name='{host}'/><dir path='/e'/>"), "/mnt")
        };
        assert!(check(&nfs("b", "h"), [&nfs("a", "h")].into_iter()).is_err());
        assert!(check(&nfs("b", "h2"), [&nfs("a", "h")].into_iter()).is_ok());
        let disk = pool("d", "disk", "<device path='/dev/sdx'/>", "/dev");
        let error = check(&pool("f", "fs", "<device path='/dev/sdx'/>", "/m"), [&disk].into_iter());
        assert_eq!(error.unwrap_err().message(), "operation failed: Storage source conflict with pool: 'd'");
    }
}

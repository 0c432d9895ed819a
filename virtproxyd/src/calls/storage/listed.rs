//! Paths of the volumes that a client has just listed.
//!
//! virsh asks for the path of each volume of a list: ten thousand calls, each to the daemon and back. Of most pools a key is
//! the path, and the daemon counts its changes in memory that can be read here: while that count stands still, a volume
//! of the last list is still there, and its path is told at once.

use bytes::Bytes;
use parking_lot::Mutex;
use virt_api::storage::v1alpha1::ListVolumesResponse;
use virt_wire::remote::NonnullStorageVol;

use crate::kept::Before;

/// What a connection knows of its last list.
#[derive(Default)]
pub(crate) struct Listed {
    last: Mutex<Option<List>>,
}

struct List {
    before: Before,
    pool: String,
    prefix: String,
    /// The names, sorted, each with a zero byte after it.
    names: Bytes,
    /// Where each name begins.
    begins: Vec<usize>,
}

impl Listed {
    /// Keeps a list whose keys are paths; `before` is from before it was asked for.
    pub(super) fn keep(&self, before: Option<Before>, list: &ListVolumesResponse) {
        let useful = list.keys_are_paths && list.keys.is_empty() && !list.names.is_empty();
        *self.last.lock() = before.filter(|_| useful).map(|before| {
            let ends = list.names.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at + 1);
            let begins = std::iter::once(0).chain(ends.filter(|at| *at < list.names.len())).collect();
            let (pool, prefix) = (list.pool.clone(), list.key_prefix.clone());
            List { before, pool, prefix, names: list.names.clone(), begins }
        });
    }

    /// The path of a volume of the last list, if that still holds.
    pub(super) fn path(&self, vol: &NonnullStorageVol) -> Option<String> {
        let last = self.last.lock();
        let list = last.as_ref()?;
        let there = list.pool == vol.pool
            && vol.key.strip_prefix(list.prefix.as_str()) == Some(vol.name.as_str())
            && list.has(&vol.name);
        let holds = there && list.before.holds();
        holds.then(|| vol.key.clone())
    }
}

impl List {
    fn has(&self, name: &str) -> bool {
        let name_at = |begin: &usize| {
            let rest = self.names.get(*begin..).unwrap_or_default();
            rest.split(|byte| *byte == 0).next().unwrap_or_default()
        };
        self.begins.binary_search_by(|begin| name_at(begin).cmp(name.as_bytes())).is_ok()
    }
}

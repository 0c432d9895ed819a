//! Pools that are a folder of this host.

use std::path::Path;

use virt_error::Result;
use virt_model::storage::Pool;

use super::folder::Folder;
use super::{Backend, Cx, Overwrite};
use crate::pool::invalid;

/// `<pool type='dir'>`.
pub struct Dir;

impl Backend for Dir {
    fn folder<'a>(&self, pool: &'a Pool) -> Option<Folder<'a>> {
        Some(Folder::of(pool))
    }

    fn is_active(&self, _: &Cx<'_>, pool: &Pool) -> Result<bool> {
        Ok(Path::new(pool.path()).is_dir())
    }

    fn start(&self, _: &Cx<'_>, pool: &Pool) -> Result<()> {
        crate::paths::sweep(Path::new(pool.path()));
        Ok(())
    }

    fn build(&self, _: &Cx<'_>, pool: &Pool, overwrite: Overwrite) -> Result<()> {
        if overwrite != Overwrite::Unsaid {
            let text = format!("No source device specified when formatting pool '{}'", pool.name());
            return Err(invalid(text));
        }
        Folder::of(pool).make()
    }
}

//! Pools that are a folder of this host.

use std::path::Path;

use virt_error::Result;
use virt_model::storage::{Pool, Volume as Document, VolumeType};

use super::folder::Folder;
use super::{Backend, Content, Create, Cx, Overwrite, Resize};
use crate::pool::{Sizes, invalid};
use crate::volume::Volume;

/// `<pool type='dir'>`.
pub struct Dir;

impl Backend for Dir {
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

    fn delete(&self, _: &Cx<'_>, pool: &Pool) -> Result<()> {
        Folder::of(pool).remove()
    }

    fn refresh(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Content> {
        Folder::of(pool).refresh(cx)
    }

    fn sizes(&self, _: &Cx<'_>, pool: &Pool) -> Result<Sizes> {
        Folder::of(pool).sizes()
    }

    fn place(&self, pool: &Pool, name: &str) -> Result<(String, String)> {
        Folder::of(pool).place(name)
    }

    fn volume_type(&self, _: &Pool, wanted: &Document) -> VolumeType {
        Folder::volume_type(wanted)
    }

    fn create(&self, cx: &Cx<'_>, pool: &Pool, create: &Create<'_>) -> Result<Volume> {
        Folder::of(pool).create(cx, create)
    }

    fn delete_volume(&self, _: &Cx<'_>, pool: &Pool, volume: &Volume, flags: u32) -> Result<()> {
        Folder::of(pool).delete_volume(volume, flags)
    }

    fn resize(&self, cx: &Cx<'_>, pool: &Pool, volume: &Volume, wanted: Resize) -> Result<()> {
        Folder::of(pool).resize(cx, volume, wanted)
    }

    fn look(&self, _: &Cx<'_>, pool: &Pool, volume: &Volume) -> Result<Volume> {
        Folder::of(pool).look(volume)
    }

    fn content(&self, pool: &Pool, volume: &Volume) -> Result<std::path::PathBuf> {
        crate::paths::inside(Path::new(pool.path()), volume.name())
    }
}

//! Pools of a Gluster volume: files that guests reach over the network. This host sees them through a private mount.

use std::path::{Path, PathBuf};
use std::time::Duration;

use virt_error::{Domain, Error, Result};
use virt_host::tool::Run;
use virt_model::storage::{Pool, PoolType, VolumeType};

use super::folder::Folder;
use super::{Backend, Content, Cx, iscsi, mounted};
use crate::pool::Sizes;
use crate::volume::Volume;

/// `<pool type='gluster'>`.
pub struct Gluster {
    /// Where private mounts are.
    pub run: PathBuf,
}

const MOUNT: Duration = Duration::from_secs(60);

fn volume_name(pool: &Pool) -> Result<&str> {
    let name = pool.source.name.as_deref().unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    match !name.is_empty() && !name.starts_with(['-', '.']) && name.chars().all(good) {
        true => Ok(name),
        false => Err(Error::internal(Domain::Storage, format!("invalid gluster volume name '{name}'"))),
    }
}

impl Gluster {
    fn mount_point(&self, pool: &Pool) -> PathBuf {
        self.run.join(format!("gluster-{}", pool.uuid.unwrap_or_default()))
    }

    /// The pool as a folder of this host.
    fn local(&self, pool: &Pool) -> Result<Pool> {
        let dir = pool.source.dir.as_deref().unwrap_or("/").trim_start_matches('/');
        if dir.split('/').any(|part| part == "..") {
            return Err(Error::internal(Domain::Storage, format!("invalid gluster directory '{dir}'")));
        }
        let path = self.mount_point(pool).join(dir);
        let mut local = pool.clone();
        local.kind = PoolType::Dir;
        local.target.path = Some(path.to_string_lossy().into_owned());
        Ok(local)
    }

    /// A file's volume as guests reach it.
    fn remote(&self, pool: &Pool, mut volume: Volume) -> Result<Volume> {
        let host = pool.source.hosts.first().map(|h| h.name.as_str()).unwrap_or_default();
        let dir = pool.source.dir.as_deref().unwrap_or("/").trim_matches('/');
        let slash = if dir.is_empty() { "" } else { "/" };
        let key = format!("{}/{dir}{slash}{}", volume_name(pool)?, volume.name());
        let document = &mut volume.document;
        document.kind = Some(if document.kind == Some(VolumeType::Dir) {
            VolumeType::NetDir
        } else {
            VolumeType::Network
        });
        document.target.path = Some(format!("gluster://{host}/{key}"));
        document.key = Some(key);
        Ok(volume)
    }
}

impl Backend for Gluster {
    fn needs(&self) -> &'static [&'static str] {
        &["mount", "umount", "glusterfs"]
    }

    fn is_active(&self, _: &Cx<'_>, pool: &Pool) -> Result<bool> {
        Ok(mounted::now_at(&self.mount_point(pool).to_string_lossy())?.is_some())
    }

    fn start(&self, cx: &Cx<'_>, pool: &Pool) -> Result<()> {
        let point = self.mount_point(pool);
        std::fs::create_dir_all(&point).map_err(super::failed("cannot create path", &point))?;
        // Only the server's name: the port is Gluster's own affair.
        iscsi::portal(pool.source.hosts.first())?;
        let host = pool.source.hosts.first().map(|h| h.name.as_str()).unwrap_or_default();
        let source = format!("{host}:/{}", volume_name(pool)?);
        let run = Run::new("mount", Domain::Storage).deadline(MOUNT);
        let run = run.args(["-o", "nodev,nosuid,noexec", "-t", "glusterfs", source.as_str()]).arg(&point);
        cx.tools.run(&run.cancel(&cx.cancel)).map(drop).inspect_err(|_| drop(std::fs::remove_dir(&point)))
    }

    fn stop(&self, cx: &Cx<'_>, pool: &Pool) -> Result<()> {
        let point = self.mount_point(pool);
        if self.is_active(cx, pool)? {
            cx.tools.run(&Run::new("umount", Domain::Storage).deadline(MOUNT).arg(&point))?;
        }
        let _ = std::fs::remove_dir(&point);
        Ok(())
    }

    fn refresh(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Content> {
        let local = self.local(pool)?;
        let mut found = Folder::of(&local).refresh(cx)?;
        found.permissions = None;
        found.volumes = found.volumes.into_iter().map(|v| self.remote(pool, v)).collect::<Result<_>>()?;
        Ok(found)
    }

    fn sizes(&self, _: &Cx<'_>, pool: &Pool) -> Result<Sizes> {
        Folder::of(&self.local(pool)?).sizes()
    }

    fn delete_volume(&self, _: &Cx<'_>, pool: &Pool, volume: &Volume, flags: u32) -> Result<()> {
        Folder::of(&self.local(pool)?).delete_volume(volume, flags)
    }

    fn look(&self, _: &Cx<'_>, pool: &Pool, volume: &Volume) -> Result<Volume> {
        let now = Folder::of(&self.local(pool)?).look(volume)?;
        self.remote(pool, now)
    }

    fn content(&self, pool: &Pool, volume: &Volume) -> Result<PathBuf> {
        let local = self.local(pool)?;
        crate::paths::inside(Path::new(local.path()), volume.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_as_guests_reach_them() {
        let xml = "<pool type='gluster'><name>p</name><source><host name='h'/><name>vol</name><dir path='/d'/></source></pool>";
        let pool = Pool::parse(xml).unwrap();
        let gluster = Gluster { run: "/run/x".into() };
        let document = virt_model::storage::Volume { name: Some("a".into()), ..Default::default() };
        let volume = gluster.remote(&pool, Volume::new(document)).unwrap();
        assert_eq!((volume.path(), volume.key()), ("gluster://h/vol/d/a", "vol/d/a"));
        assert_eq!(volume.kind(), VolumeType::Network);
        let up = Pool::parse(&xml.replace("/d", "/d/../..")).unwrap();
        assert!(gluster.local(&up).is_err());
    }
}

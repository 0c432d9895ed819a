//! Disks that name a volume of a storage pool: virtstoraged tells what they stand for when the guest starts.
//!
//! A running guest's disk has the place beside the volume's name: what the pool says later does not change a disk in use.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use virt_api::storage::v1alpha1::storage_volume_service_client::StorageVolumeServiceClient;
use virt_api::storage::v1alpha1::{ResolveVolumeRequest, ResolveVolumeResponse};
use virt_consts::{
    VIR_STORAGE_VOL_BLOCK, VIR_STORAGE_VOL_FILE, VIR_STORAGE_VOL_NETDIR, VIR_STORAGE_VOL_NETWORK,
};
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::disk::Disk;
use virt_model::domain::source::{
    Auth, BlockImage, DiskSource, FileImage, ImageFormat, NetworkHost, NetworkImage, NetworkProtocol,
    SecretRef, StartupPolicy, VolumeImage, VolumeMode,
};
use virt_model::domain::volume::NamedVolume;
use virt_model::storage::{PoolSource, PoolType};
use virt_rpc::client::Daemon;
use virt_rpc::{client, from_status};

/// How long virtstoraged may take for one volume.
const PATIENCE: Duration = Duration::from_secs(30);

/// virtstoraged as this daemon sees it.
pub struct Volumes {
    sockets: PathBuf,
    daemon: OnceLock<Daemon>,
}

impl Volumes {
    /// The daemon whose sockets are in `sockets`; it is reached when the first disk needs it.
    pub fn new(sockets: PathBuf) -> Self {
        Self { sockets, daemon: OnceLock::new() }
    }

    /// A guest's document with the places that its volumes stand for. At a start from the beginning a volume that may be
    /// missing and is stays as it was: it has no place, and is left out as a missing file is.
    ///
    /// # Errors
    /// Codes 49 and 50 without such a pool or volume, code 55 when the pool is not active, code 38 when the daemon is
    /// not reached.
    pub async fn resolve(&self, config: Arc<Domain>, restored: bool) -> Result<Arc<Domain>> {
        if !config.devices.disks.iter().any(|d| matches!(d.source, DiskSource::Volume(_))) {
            return Ok(config);
        }
        let mut resolved = (*config).clone();
        for disk in &mut resolved.devices.disks {
            match self.resolve_disk(disk).await {
                Err(error) if !restored && may_miss(disk) && is_missing(&error) => {}
                done => done?,
            }
        }
        Ok(Arc::new(resolved))
    }

    /// One disk with the place that its volume stands for; another disk stays as it is.
    ///
    /// # Errors
    /// As [`Volumes::resolve`].
    pub async fn resolve_disk(&self, disk: &mut Disk) -> Result<()> {
        let DiskSource::Volume(image) = &disk.source else { return Ok(()) };
        let image = image.clone();
        // A removable drive may be empty.
        let (Some(pool), Some(volume)) = (image.pool.clone(), image.volume.clone()) else { return Ok(()) };
        let found = self.ask(pool, volume).await?;
        place(disk, image, &found)
    }

    async fn ask(&self, pool: String, volume: String) -> Result<ResolveVolumeResponse> {
        let daemon = self.daemon.get_or_init(|| Daemon::new(&self.sockets, "virtstoraged"));
        let mut client = client!(StorageVolumeServiceClient, daemon);
        let call = client.resolve(ResolveVolumeRequest { pool, volume });
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(answer) => Ok(answer.map_err(|s| from_status(&s))?.into_inner()),
            Err(_) => {
                let text = "virtstoraged did not answer in time";
                Err(Error::new(Code::OperationTimeout, From::Storage, text))
            }
        }
    }
}

fn may_miss(disk: &Disk) -> bool {
    disk.source.common().startup_policy == Some(StartupPolicy::Optional)
}

fn is_missing(error: &Error) -> bool {
    matches!(error.code(), Code::NoStoragePool | Code::NoStorageVol)
}

/// Puts a volume's place into its disk; its name stays beside it.
fn place(disk: &mut Disk, mut image: VolumeImage, found: &ResolveVolumeResponse) -> Result<()> {
    let kind = i32::try_from(found.r#type).unwrap_or(-1);
    let pool = PoolType::from_name(&found.pool_type);
    let direct = pool == Some(PoolType::IscsiDirect)
        || (pool == Some(PoolType::Iscsi) && image.mode == Some(VolumeMode::Direct));
    if image.mode.is_some() && !matches!(pool, Some(PoolType::Iscsi | PoolType::IscsiDirect)) {
        let text = "disk source mode is only valid when storage pool is of iscsi type";
        return Err(Error::new(Code::XmlError, From::Qemu, text));
    }
    let (file, block) = (kind == VIR_STORAGE_VOL_FILE, kind == VIR_STORAGE_VOL_BLOCK);
    let network = direct || kind == VIR_STORAGE_VOL_NETWORK || kind == VIR_STORAGE_VOL_NETDIR;
    let path = Some(found.path.clone());
    let inherited_auth = image.common.auth.is_none();
    let (named, mode) = ((image.pool.clone(), image.volume.clone()), image.mode);
    let named = NamedVolume { pool: named.0, volume: named.1, mode, inherited_auth };
    image.common.volume = Some(Box::new(named));
    let common = image.common.clone();
    disk.source = match pool {
        Some(pool) if network => DiskSource::Network(Box::new(remote(pool, image, found)?)),
        _ if file => DiskSource::File(FileImage { file: path, common, ..FileImage::default() }),
        _ if block => DiskSource::Block(BlockImage { dev: path, common }),
        _ => {
            let text = format!("cannot use volume '{}' as a disk", found.path);
            return Err(Error::new(Code::ConfigUnsupported, From::Qemu, text));
        }
    };
    if disk.driver.format.is_none() {
        disk.driver.format =
            Some(ImageFormat::from_name(&found.format).filter(|_| file).unwrap_or(ImageFormat::Raw));
    }
    Ok(())
}

/// A volume that QEMU reaches itself.
fn remote(pool: PoolType, image: VolumeImage, found: &ResolveVolumeResponse) -> Result<NetworkImage> {
    let source = PoolSource::parse(&found.source, pool)?;
    let bad = || Error::internal(From::Storage, format!("unexpected path '{}' of a volume", found.path));
    let (protocol, name, secret) = match pool {
        PoolType::Rbd => (NetworkProtocol::Rbd, found.path.clone(), "ceph"),
        PoolType::Gluster => {
            // gluster://HOST/VOLUME/PATH
            let rest = found.path.strip_prefix("gluster://").and_then(|p| p.split_once('/'));
            (NetworkProtocol::Gluster, rest.ok_or_else(bad)?.1.to_string(), "")
        }
        PoolType::Iscsi | PoolType::IscsiDirect => {
            // ip-PORTAL-iscsi-TARGET-lun-UNIT, under whatever folder.
            let unit = found.path.rsplit_once("-lun-").ok_or_else(bad)?.1;
            let target = source.device().ok_or_else(bad)?;
            (NetworkProtocol::Iscsi, format!("{target}/{unit}"), "iscsi")
        }
        _ => return Err(bad()),
    };
    let hosts = source.hosts.iter().map(|host| NetworkHost {
        name: Some(host.name.clone()),
        port: host.port.and_then(|p| u32::try_from(p).ok()),
        ..NetworkHost::default()
    });
    let mut network = NetworkImage {
        protocol,
        name: Some(name),
        hosts: hosts.collect(),
        initiator: source.initiator.as_ref().and_then(|i| i.iqn.clone()),
        common: image.common,
        ..NetworkImage::default()
    };
    if let Some(auth) = &source.auth {
        let (uuid, usage) = (auth.secret.uuid, auth.secret.usage.clone());
        let secret = SecretRef { kind: Some(secret.to_string()), uuid, usage };
        network.common.auth.get_or_insert(Auth { username: Some(auth.username.clone()), secret });
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(mode: Option<VolumeMode>, found: ResolveVolumeResponse) -> Result<Disk> {
        let mut disk = Disk::default();
        place(&mut disk, VolumeImage { mode, ..VolumeImage::default() }, &found)?;
        Ok(disk)
    }

    fn found(pool: &str, kind: i32, path: &str, source: &str) -> ResolveVolumeResponse {
        ResolveVolumeResponse {
            pool_type: pool.into(),
            r#type: kind.unsigned_abs(),
            path: path.into(),
            format: "qcow2".into(),
            source: format!("<source>{source}</source>"),
        }
    }

    #[test]
    fn files_keep_their_format_and_devices_are_raw() {
        let disk = resolved(None, found("dir", VIR_STORAGE_VOL_FILE, "/p/a", "")).unwrap();
        assert_eq!((disk.source.path(), disk.driver.format), (Some("/p/a"), Some(ImageFormat::Qcow2)));
        let disk = resolved(None, found("logical", VIR_STORAGE_VOL_BLOCK, "/dev/v/a", "")).unwrap();
        assert!(matches!(disk.source, DiskSource::Block(_)) && disk.driver.format == Some(ImageFormat::Raw));
        assert!(resolved(Some(VolumeMode::Direct), found("dir", VIR_STORAGE_VOL_FILE, "/p/a", "")).is_err());
    }

    #[test]
    fn network_volumes_become_network_disks() {
        let source = "<host name='h' port='6789'/><auth type='ceph' username='u'><secret usage='k'/></auth>";
        let disk = resolved(None, found("rbd", VIR_STORAGE_VOL_NETWORK, "rbd/a", source)).unwrap();
        let DiskSource::Network(image) = &disk.source else { panic!("{:?}", disk.source) };
        assert_eq!((image.name.as_deref(), image.hosts[0].port), (Some("rbd/a"), Some(6789)));
        assert_eq!(image.common.auth.as_ref().unwrap().secret.kind.as_deref(), Some("ceph"));
        let source = "<host name='h'/><device path='iqn.a:b'/>";
        let path = "/dev/disk/by-path/ip-h:3260-iscsi-iqn.a:b-lun-2";
        let disk =
            resolved(Some(VolumeMode::Direct), found("iscsi", VIR_STORAGE_VOL_BLOCK, path, source)).unwrap();
        let DiskSource::Network(image) = &disk.source else { panic!("{:?}", disk.source) };
        assert_eq!(image.name.as_deref(), Some("iqn.a:b/2"));
        let disk = resolved(None, found("iscsi", VIR_STORAGE_VOL_BLOCK, path, source)).unwrap();
        assert!(matches!(disk.source, DiskSource::Block(_)));
    }
}

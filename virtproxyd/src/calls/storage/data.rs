//! The content of volumes.

use virt_api::common::v1alpha1::Ticket;
use virt_api::storage::v1alpha1::storage_data_service_client::StorageDataServiceClient as Data;
use virt_api::storage::v1alpha1::{TransferRequest, WipeRequest};
use virt_consts::{VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM, VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM};
use virt_error::{Code, Domain, Error, Result};
use virt_host::content::Part;
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::vol_ref;
use crate::route::Object;
use crate::streams::{Source, Volume, Way};

pub(super) const CALLS: &[Call] = calls! {
    stream procs::StorageVolUpload => upload;
    stream procs::StorageVolDownload => download;
    ask procs::StorageVolWipe => wipe;
    ask procs::StorageVolWipePattern => wipe_pattern;
};

/// The socket of a transfer, and the volume's file.
async fn claim(c: &Ctx, ticket: Ticket, (way, part): (Way, Part)) -> Result<Source> {
    let mut given = c.claim_all(Object::Storage, &ticket.token).await?.into_iter();
    match (given.next(), given.next(), given.next()) {
        (Some(control), Some(file), None) => Ok(Source::Volume(Volume { way, control, file, part })),
        _ => Err(Error::new(Code::Rpc, Domain::Rpc, "expected a socket and a file")),
    }
}

async fn upload(c: Ctx, a: StorageVolUploadArgs) -> Result<((), Source)> {
    let (volume, offset, length, flags) = (vol_ref(a.vol), a.offset, a.length, a.flags);
    let request = TransferRequest { volume, offset, length, flags, direct: true };
    let ticket = rpc!(c, Storage: Data.upload(request)).await?;
    let sparse = flags & VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM != 0;
    Ok(((), claim(&c, ticket, (Way::Upload, Part { offset, length, sparse })).await?))
}

async fn download(c: Ctx, a: StorageVolDownloadArgs) -> Result<((), Source)> {
    let (volume, offset, length, flags) = (vol_ref(a.vol), a.offset, a.length, a.flags);
    let request = TransferRequest { volume, offset, length, flags, direct: true };
    let ticket = rpc!(c, Storage: Data.download(request)).await?;
    let sparse = flags & VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM != 0;
    Ok(((), claim(&c, ticket, (Way::Download, Part { offset, length, sparse })).await?))
}

async fn wipe_any(c: Ctx, vol: NonnullStorageVol, algorithm: u32, flags: u32) -> Result<()> {
    rpc!(c, Storage: Data.wipe(WipeRequest { volume: vol_ref(vol), algorithm, flags })).await?;
    Ok(())
}

async fn wipe(c: Ctx, a: StorageVolWipeArgs) -> Result<()> {
    wipe_any(c, a.vol, 0, a.flags).await
}

async fn wipe_pattern(c: Ctx, a: StorageVolWipePatternArgs) -> Result<()> {
    wipe_any(c, a.vol, a.algorithm, a.flags).await
}

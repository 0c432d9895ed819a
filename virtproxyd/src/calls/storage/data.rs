//! The content of volumes.

use std::os::fd::OwnedFd;

use virt_api::common::v1alpha1::Ticket;
use virt_api::storage::v1alpha1::storage_data_service_client::StorageDataServiceClient as Data;
use virt_api::storage::v1alpha1::{TransferRequest, WipeRequest};
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::vol_ref;
use crate::route::Object;
use crate::streams::Source;

pub(super) const CALLS: &[Call] = calls! {
    stream procs::StorageVolUpload => upload;
    stream procs::StorageVolDownload => download;
    ask procs::StorageVolWipe => wipe;
    ask procs::StorageVolWipePattern => wipe_pattern;
};

async fn claim(c: &Ctx, ticket: Ticket) -> Result<OwnedFd> {
    c.claim(Object::Storage, &ticket.token).await
}

async fn upload(c: Ctx, a: StorageVolUploadArgs) -> Result<((), Source)> {
    let (volume, offset, length, flags) = (vol_ref(a.vol), a.offset, a.length, a.flags);
    let ticket = rpc!(c, Storage: Data.upload(TransferRequest { volume, offset, length, flags })).await?;
    Ok(((), Source::Upload(claim(&c, ticket).await?)))
}

async fn download(c: Ctx, a: StorageVolDownloadArgs) -> Result<((), Source)> {
    let (volume, offset, length, flags) = (vol_ref(a.vol), a.offset, a.length, a.flags);
    let ticket = rpc!(c, Storage: Data.download(TransferRequest { volume, offset, length, flags })).await?;
    Ok(((), Source::Download(claim(&c, ticket).await?)))
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

//! `StorageDataService`.

use tonic::Request;
use virt_api::common::v1alpha1::Ticket;
use virt_api::storage::v1alpha1::storage_data_service_server::StorageDataService;
use virt_api::storage::v1alpha1::*;
use virt_consts::*;
use virt_error::Result;
use virt_rpc::descriptor::Descriptors;
use virt_rpc::{Caller, answer};

use super::{Answer, StorageApi, flags};
use crate::volume::transfer::{self, Direction, Part};
use crate::volume::wipe::{self, Algorithm};

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct DataApi {
    api: StorageApi,
    descriptors: Descriptors,
}

impl DataApi {
    /// For the same pools.
    pub fn new(api: StorageApi, descriptors: Descriptors) -> Self {
        Self { api, descriptors }
    }

    async fn transfer(
        &self,
        caller: &Caller,
        direction: Direction,
        request: TransferRequest,
        sparse: bool,
    ) -> Result<Ticket> {
        let (pool, volume) = self.api.find_volume(&request.volume)?;
        let name = volume.name().to_string();
        let part = Part { offset: request.offset, length: request.length, sparse };
        let socket = transfer::begin(&self.api.driver, &pool, name, direction, part).await?;
        Ok(Ticket { token: self.descriptors.park(vec![socket], caller)? })
    }
}

#[tonic::async_trait]
impl StorageDataService for DataApi {
    async fn upload(&self, request: Request<TransferRequest>) -> Answer<Ticket> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        answer(async {
            flags(request.flags, VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM, "storageVolUpload")?;
            let sparse = request.flags & VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM != 0;
            self.transfer(&caller, Direction::Upload, request, sparse).await
        })
        .await
    }

    async fn download(&self, request: Request<TransferRequest>) -> Answer<Ticket> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        answer(async {
            flags(request.flags, VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM, "storageVolDownload")?;
            let sparse = request.flags & VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM != 0;
            self.transfer(&caller, Direction::Download, request, sparse).await
        })
        .await
    }

    async fn wipe(&self, request: Request<WipeRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "storageVolWipePattern")?;
            let algorithm = Algorithm::from_number(request.algorithm)?;
            let (pool, volume) = self.api.find_volume(&request.volume)?;
            let name = volume.name().to_string();
            wipe::wipe(&self.api.driver, &pool, name, algorithm).await.map(|()| Empty {})
        })
        .await
    }
}

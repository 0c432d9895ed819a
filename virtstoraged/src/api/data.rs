//! `StorageDataService`.

use tonic::Request;
use virt_api::common::v1alpha1::Ticket;
use virt_api::storage::v1alpha1::storage_data_service_server::StorageDataService;
use virt_api::storage::v1alpha1::*;
use virt_consts::*;
use virt_error::Result;
use virt_host::content::Part;
use virt_rpc::descriptor::Descriptors;
use virt_rpc::{Caller, answer};

use super::{Answer, StorageApi, flags};
use crate::volume::tasks::Task;
use crate::volume::transfer::{self, Direction};
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
        let (pool, volume) = self.api.find_volume(&request.volume).await?;
        let name = volume.name().to_string();
        let part = Part { offset: request.offset, length: request.length, sparse };
        // A file that somebody keeps can be written when its volume is another's long since. virtproxyd keeps none.
        let peer = caller.connection().uid;
        let own = rustix::process::geteuid().as_raw();
        let direct = request.direct && (peer == own || self.descriptors.is_proxy(peer));
        let given = transfer::begin(&self.api.driver, &pool, name, (direction, direct), part).await?;
        Ok(Ticket { token: self.descriptors.park(given, caller)? })
    }
}

fn job(task: &Task) -> Job {
    Job {
        id: task.id,
        kind: task.kind.as_str().to_string(),
        pool: task.pool.clone(),
        volume: task.volume.clone(),
        done: task.progress.done(),
        total: task.progress.total(),
        age_ms: u64::try_from(task.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        cancelled: task.cancel.is_cancelled(),
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

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Answer<ListJobsResponse> {
        let request = request.into_inner();
        answer(async {
            let only = match &request.pool {
                Some(_) => Some(self.api.find(&request.pool)?.published().value.name.to_string()),
                None => None,
            };
            let all = self.api.driver.tasks.list();
            let shown = all.iter().filter(|t| only.as_ref().is_none_or(|pool| t.pool == *pool));
            Ok(ListJobsResponse { jobs: shown.map(|task| job(task)).collect() })
        })
        .await
    }

    async fn cancel_job(&self, request: Request<CancelJobRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            self.api.driver.tasks.find(request.id)?.cancel();
            Ok(Empty {})
        })
        .await
    }

    async fn wipe(&self, request: Request<WipeRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "storageVolWipePattern")?;
            let algorithm = Algorithm::from_number(request.algorithm)?;
            let (pool, volume) = self.api.find_volume(&request.volume).await?;
            let name = volume.name().to_string();
            wipe::wipe(&self.api.driver, &pool, name, algorithm).await.map(|()| Empty {})
        })
        .await
    }
}

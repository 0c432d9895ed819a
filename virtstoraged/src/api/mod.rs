//! The services: check, convert, ask, convert.

mod data;
mod pool;
mod volume;

pub use data::DataApi;

use std::sync::Arc;

use tonic::{Response, Status};
use virt_api::storage::v1alpha1::PoolRef;
use virt_error::{Domain, Result};
use virt_host::schema::{self, Schema};
use virt_rpc::check;

use crate::driver::Driver;
use crate::pool::Pool as Handle;

type Answer<T> = Result<Response<T>, Status>;

/// Both services. Cheap to clone.
#[derive(Clone)]
pub struct StorageApi {
    driver: Arc<Driver>,
}

impl StorageApi {
    /// For this driver's pools.
    pub fn new(driver: Arc<Driver>) -> Self {
        Self { driver }
    }

    fn find(&self, wanted: &Option<PoolRef>) -> Result<Arc<Handle>> {
        self.driver.find(wanted.as_ref())
    }
}

/// Refuses flag bits outside `known`.
fn flags(given: u32, known: u32, function: &'static str) -> Result<()> {
    check::flags(Domain::Storage, given, known, function)
}

/// Holds a document against its schema if the flags ask for it.
async fn validate(asked: bool, schema: Schema, xml: &str) -> Result<()> {
    schema::check(asked, schema, Domain::Storage, xml).await
}

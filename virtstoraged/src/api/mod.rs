//! The services: check, convert, ask, convert.

mod data;
mod pool;
mod volume;

pub use data::DataApi;

use std::sync::Arc;

use tonic::{Response, Status};
use virt_api::storage::v1alpha1::PoolRef;
use virt_error::{Code, Domain, Error, Result};

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
    match given & !known {
        0 => Ok(()),
        unknown => Err(Error::unsupported_flags(Domain::Storage, function, unknown)),
    }
}

/// Schema files are not read yet; to accept without looking would be a lie.
fn no_validation(given: u32, validate: u32) -> Result<()> {
    if given & validate == 0 {
        return Ok(());
    }
    let text = "validation of documents against the schema is not available";
    Err(Error::new(Code::ArgumentUnsupported, Domain::Storage, text))
}

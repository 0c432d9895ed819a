//! The persistent side of guests: defining, changing and removing configurations.
//!
//! A change runs as a job of its guest: the document is copied, changed by a pure function of [`crate::config`], completed
//! and checked by [`crate::document`], written to disk, published, and told as an event, in this order. Nothing here takes
//! longer the more guests there are.

mod change;
mod define;
mod load;
mod remove;
mod rename;
mod start;

pub use change::{Announce, Change, Completion};

use std::sync::Arc;

use virt_error::{Code, Domain as From, Error};
use virt_model::domain::Domain;
use virt_object::store::Store;

use crate::driver::Driver;
use crate::emulator::Emulators;

/// What changes of configurations work with. Cheap to clone.
#[derive(Clone)]
pub struct Definitions {
    driver: Arc<Driver>,
    emulators: Arc<Emulators>,
    store: Arc<Store>,
}

impl Definitions {
    /// For this driver's guests; files are in the driver's configuration folder.
    pub fn new(driver: Arc<Driver>, emulators: Arc<Emulators>) -> Self {
        let store = Arc::new(Store::new(driver.folders.config.clone(), "virsh edit"));
        Self { driver, emulators, store }
    }

    /// What all guests share.
    pub fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    /// The emulators of the host.
    pub fn emulators(&self) -> &Arc<Emulators> {
        &self.emulators
    }
}

/// A configuration as it is held for as long as the guest is defined. A copy has no room for more list members than
/// there are, which reading and completing reserved: half the memory.
#[expect(clippy::needless_pass_by_value, reason = "the roomy one is not to be kept")]
fn keep(config: Domain) -> Arc<Domain> {
    Arc::new(config.clone())
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Code::OperationInvalid, From::Qemu, text)
}

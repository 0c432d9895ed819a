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

pub use change::{Announce, Completion};

use std::sync::Arc;

use virt_error::{Code, Domain as From, Error};
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

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Code::OperationInvalid, From::Qemu, text)
}

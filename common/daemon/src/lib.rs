//! The one main() all daemons share.
//!
//! ```no_run
//! use virt_daemon::{Daemon, Running};
//! use virt_rpc::server::Services;
//!
//! fn main() -> std::process::ExitCode {
//!     Daemon::new("virtexampled", "the example driver").run(async |context| {
//!         // Read configuration, adopt what runs, make the handlers ...
//!         let services = Services::new();
//!         Ok(Running::new(services))
//!     })
//! }
//! ```
//!
//! The order is the same everywhere: arguments, configuration, logging, lock, inherited sockets, the driver's own start
//! (adoption of what runs), READY=1, serve, and at the end STOPPING=1, drain, the driver's own stop. A wrong
//! configuration ends with status 64 before any socket is opened.
//!
//! RPC runs on a one-thread runtime; owner tasks and heavy work belong on [`Context::work`].

mod args;
mod companions;
pub mod conf;
mod inherit;
mod lock;
mod logging;
mod paths;
mod run;

pub use conf::Conf;
pub use lock::PidFile;
pub use paths::{Mode, Paths};
pub use run::{Context, Daemon, Running, Stop};

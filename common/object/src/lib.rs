//! What all drivers repeat, once: object names, the registry, files on disk, events, owner tasks, undo.
//!
//! A driver (domains of QEMU or LXC, networks, pools, secrets ...) is built from these parts:
//!
//! - [`names`] checks a name before it touches a path.
//! - [`registry`] finds objects by name, UUID and id; each object publishes its state as an immutable snapshot.
//! - [`managed`] joins a published state and an owner to one object.
//! - [`store`] keeps one file per object on disk, as libvirt does.
//! - [`events`] is the bounded journal of what happened, numbered so that a client can resume.
//! - [`owner`] runs the changes of one object, one after another.
//! - [`autostart`] starts what starts with the host, once per boot.
//! - [`changes`] counts what clients may see changed, for readers that keep answers.
//! - [`undo`] takes back the finished steps of work that failed half-way.
//! - [`blocking`] keeps file and other blocking work off the runtime's threads.
//! - [`busy`] counts the reasons for a daemon not to exit when idle.
//!
//! Nothing here knows gRPC, XML or a hypervisor.

pub mod autostart;
pub mod blocking;
pub mod busy;
pub mod changes;
pub mod events;
pub mod managed;
pub mod names;
pub mod owner;
pub mod registry;
pub mod store;
pub mod undo;

//! Starts a guest's process outside the daemon: session, cgroup, credentials, descriptors.

//! What all drivers repeat: registry, files on disk, events.

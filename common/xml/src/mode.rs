/// What a document is read or written for. The same flags serve both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mode {
    /// Configuration only: fields marked `live` are neither read nor written.
    pub inactive: bool,
    /// Passwords and other fields marked `secure` are written.
    pub secure: bool,
    /// Written so that an older peer can read it (migration): defaults it would not know are left out.
    pub migratable: bool,
    /// The document of a running guest kept for ourselves (status file): fields marked `status` too.
    pub status: bool,
}

impl Mode {
    /// A persistent configuration, with its secrets.
    pub const CONFIG: Mode = Mode { inactive: true, secure: true, migratable: false, status: false };
    /// A running guest as clients see it, without secrets.
    pub const LIVE: Mode = Mode { inactive: false, secure: false, migratable: false, status: false };
    /// A running guest as its status file keeps it.
    pub const STATUS: Mode = Mode { inactive: false, secure: true, migratable: false, status: true };
}

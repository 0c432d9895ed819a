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
    /// A part that names what is to be changed: what an object must have may be missing.
    pub partial: bool,
    /// Of an object that is there already: not held to rules that only new ones must keep to.
    pub known: bool,
}

impl Mode {
    /// A persistent configuration, with its secrets.
    pub const CONFIG: Mode = Mode { inactive: true, secure: true, ..Self::NONE };
    /// A running guest as clients see it, without secrets.
    pub const LIVE: Mode = Self::NONE;
    /// A running guest as its status file keeps it.
    pub const STATUS: Mode = Mode { secure: true, status: true, ..Self::NONE };

    const NONE: Mode = Mode {
        inactive: false,
        secure: false,
        migratable: false,
        status: false,
        partial: false,
        known: false,
    };

    /// The same for a part that names what is to be changed.
    pub const fn partial(self) -> Self {
        Mode { partial: true, ..self }
    }

    /// The same for an object that is there already.
    pub const fn known(self) -> Self {
        Mode { known: true, ..self }
    }
}

//! tonic kept in one place: listeners, identity, sessions, the descriptor channel, clients.

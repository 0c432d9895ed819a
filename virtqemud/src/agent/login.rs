//! Who may log in to the guest: passwords and keys.

use std::sync::Arc;

use base64::Engine;
use serde_json::json;
use virt_error::Result;

use super::{call, malformed};
use crate::guest::Guest;

/// Sets a user's password; `crypted` says that it is a hash already.
///
/// # Errors
/// As [`call`].
pub async fn set_password(guest: &Arc<Guest>, user: &str, password: &str, crypted: bool) -> Result<()> {
    let password = base64::engine::general_purpose::STANDARD.encode(password);
    let arguments = json!({"username": user, "password": password, "crypted": crypted});
    call(guest, "guest-set-user-password", arguments).await.map(drop)
}

/// The keys that a user may log in with.
///
/// # Errors
/// As [`call`].
pub async fn keys(guest: &Arc<Guest>, user: &str) -> Result<Vec<String>> {
    let command = "guest-ssh-get-authorized-keys";
    let answer = call(guest, command, json!({ "username": user })).await?;
    let keys =
        answer["keys"].as_array().and_then(|k| k.iter().map(|k| k.as_str().map(str::to_string)).collect());
    keys.ok_or_else(|| malformed(command, "keys"))
}

/// What happens to a user's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// They become these.
    Replace,
    /// These are added.
    Append,
    /// These are taken away.
    Remove,
}

/// Changes the keys that a user may log in with.
///
/// # Errors
/// As [`call`].
pub async fn set_keys(guest: &Arc<Guest>, user: &str, keys: &[String], change: Change) -> Result<()> {
    let (command, arguments) = match change {
        Change::Remove => ("guest-ssh-remove-authorized-keys", json!({"username": user, "keys": keys})),
        add => {
            let reset = add == Change::Replace;
            ("guest-ssh-add-authorized-keys", json!({"username": user, "keys": keys, "reset": reset}))
        }
    };
    call(guest, command, arguments).await.map(drop)
}

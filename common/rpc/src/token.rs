//! One-time tokens: 128 random bits that stand for something handed over, for one use by the same user.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;
use virt_error::{Code, Domain, Error, Result};

/// How long a token is good. The other side uses it at once; this only bounds what a crashed one leaves behind.
pub const LIFETIME: Duration = Duration::from_secs(30);
/// How many tokens may wait at a time for one user.
pub const PER_USER: usize = 1024;

/// A one-time name for something handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 16]);

impl Token {
    /// A fresh random token.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|e| Error::internal(Domain::Rpc, "no random bytes").with_source(e))?;
        Ok(Self(bytes))
    }

    /// The bytes that go into messages.
    pub fn to_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    /// Lower-case hexadecimal, for metadata.
    pub fn to_hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

impl TryFrom<&[u8]> for Token {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self> {
        let bytes = bytes.try_into().map_err(|_| invalid())?;
        Ok(Self(bytes))
    }
}

/// Things that wait to be fetched by token.
pub(crate) struct Tokens<T>(Mutex<HashMap<Token, Waiting<T>>>);

struct Waiting<T> {
    thing: T,
    uid: u32,
    until: Instant,
}

impl<T> Tokens<T> {
    pub fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// Keeps `thing` for one [`Tokens::take`] by `uid`.
    pub fn put(&self, thing: T, uid: u32) -> Result<Token> {
        let token = Token::random()?;
        let now = Instant::now();
        let mut waiting = self.0.lock();
        waiting.retain(|_, w| w.until > now);
        if waiting.values().filter(|w| w.uid == uid).count() >= PER_USER {
            return Err(Error::new(Code::ResourceBusy, Domain::Rpc, "too many tokens wait to be used"));
        }
        waiting.insert(token, Waiting { thing, uid, until: now + LIFETIME });
        Ok(token)
    }

    /// Drops what is too old.
    pub fn tidy(&self) {
        let now = Instant::now();
        self.0.lock().retain(|_, w| w.until > now);
    }

    /// Hands the thing out, once, to the user it was kept for. A wrong user does not use the token up.
    pub fn take(&self, token: Token, uid: u32) -> Result<T> {
        let mut waiting = self.0.lock();
        let good = waiting.get(&token).is_some_and(|w| w.uid == uid && w.until > Instant::now());
        if !good {
            return Err(invalid());
        }
        waiting.remove(&token).map(|w| w.thing).ok_or_else(invalid)
    }
}

fn invalid() -> Error {
    Error::new(Code::AuthFailed, Domain::Rpc, "the token is not known, not yours, used or too old")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_for_its_user() {
        let tokens = Tokens::new();
        let token = tokens.put("thing", 5).unwrap();
        assert_eq!(tokens.take(Token::random().unwrap(), 5).unwrap_err().code(), Code::AuthFailed);
        assert_eq!(tokens.take(token, 6).unwrap_err().code(), Code::AuthFailed);
        assert_eq!(tokens.take(token, 5).unwrap(), "thing");
        assert!(tokens.take(token, 5).is_err());
        assert!(Token::try_from(&[0u8; 15][..]).is_err());
        assert_eq!(token.to_hex().len(), 32);
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_token_is_worthless() {
        let tokens = Tokens::new();
        let thing = std::sync::Arc::new(());
        let token = tokens.put(thing.clone(), 5).unwrap();
        tokio::time::advance(LIFETIME).await;
        assert!(tokens.take(token, 5).is_err());
        tokens.tidy();
        assert_eq!(std::sync::Arc::strong_count(&thing), 1);
    }

    #[test]
    fn one_user_cannot_fill_the_table() {
        let tokens = Tokens::new();
        for _ in 0..PER_USER {
            tokens.put((), 5).unwrap();
        }
        assert_eq!(tokens.put((), 5).unwrap_err().code(), Code::ResourceBusy);
        tokens.put((), 6).unwrap();
    }
}

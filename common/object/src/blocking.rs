//! Blocking work from async code: files, fsync, anything that may hang on a dead file server.

use virt_error::{Domain, Error, Result};

/// Runs `work` on a thread made for blocking, so that the few threads of a runtime go on. A panic in it becomes an
/// internal error. Dropping the returned future does not stop the work.
pub async fn run<R: Send + 'static>(work: impl FnOnce() -> Result<R> + Send + 'static) -> Result<R> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::fault(Domain::None, "work ended unexpectedly").with_source(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_and_survives_a_panic() {
        assert_eq!(run(|| Ok(5)).await.unwrap(), 5);
        let error = run(|| -> Result<()> { panic!("on purpose") }).await.unwrap_err();
        assert_eq!(error.message(), "internal error: work ended unexpectedly");
    }
}

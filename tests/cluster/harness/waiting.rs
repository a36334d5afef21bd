//! Waiting for what comes true in its own time. In: a look that says what is there instead. Out: nothing, or an error with what was there last.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Looks until all is well; an error of the look itself ends it.
pub async fn eventually(patience: Duration, what: &str, check: impl AsyncFn() -> Result<std::result::Result<(), String>>) -> Result<()> {
    let mut last = String::new();
    let waited = tokio::time::timeout(patience, async {
        loop {
            match check().await? {
                Ok(()) => return anyhow::Ok(()),
                Err(instead) => last = instead,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    waited.await.with_context(|| format!("{what} is not as it should be; there is {last}"))?
}

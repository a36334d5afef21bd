//! The archive of logs against a real S3 server: what is kept, what a sweep drops, and what a wrong setting is told.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::{TryStreamExt as _, stream};
use isobar::{
    archive::{ArchiveError, LogArchive, LogKey, S3Options, SweepRules},
    model::{
        ids::{PodKey, PodUid},
        time::{DurationMs, Timestamp},
    },
};

use crate::harness::{
    assets::{Program, available},
    stores::{S3_KEY, Store},
};

/// More than one part of an upload, and no whole number of them.
const CHUNKS: usize = 13;
const CHUNK_BYTES: usize = 1 << 20;

fn options(store: &Store) -> S3Options {
    S3Options {
        bucket: "logs".to_owned(),
        prefix: "isobar/tests".to_owned(),
        endpoint: Some(format!("http://{}", store.address())),
        region: Some("us-east-1".to_owned()),
        credentials: Some((S3_KEY.0.to_owned(), S3_KEY.1.to_owned())),
        allow_http: true,
    }
}

fn key(pod: &str, container: &str) -> LogKey {
    LogKey { pod: PodKey::new("ns", pod), uid: PodUid::from(&*format!("{pod}-uid")), container: container.into(), previous: false }
}

async fn text(archive: &LogArchive, key: &LogKey) -> Result<Option<Vec<u8>>> {
    let Some(text) = archive.read(key).await? else { return Ok(None) };
    Ok(Some(text.try_collect::<Vec<Bytes>>().await?.concat()))
}

fn body(chunks: Vec<Bytes>) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::iter(chunks.into_iter().map(Ok))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_kept_in_a_bucket() -> Result<()> {
    if !available("logs_are_kept_in_a_bucket", &[Program::S3]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let store = Store::s3(folder.path(), "logs").await?;
    let archive = LogArchive::s3(&options(&store))?;
    archive.probe().await?;
    ensure!(text(&archive, &key("web", "app")).await?.is_none(), "nothing is there yet");

    let large: Vec<Bytes> = (0..CHUNKS).map(|at| Bytes::from(vec![b'a' + u8::try_from(at).unwrap_or(0); CHUNK_BYTES])).collect();
    let receipt = archive.write(&key("web", "app"), body(large.clone())).await?;
    ensure!(receipt.complete && receipt.bytes == (CHUNKS * CHUNK_BYTES) as u64, "{receipt:?}");
    ensure!(text(&archive, &key("web", "app")).await?.context("kept")? == large.concat(), "what was written in parts is read whole");
    ensure!(archive.receipt(&key("web", "app")).await? == Some(receipt));

    archive.write(&key("web", "app"), body(vec![Bytes::from_static(b"short\n")])).await?;
    archive.write(&key("web", "ünd so=weiter%2f"), body(vec![Bytes::from_static(b"odd\n")])).await?;
    ensure!(text(&archive, &key("web", "app")).await?.as_deref() == Some(b"short\n"), "a rewrite replaces");
    ensure!(text(&archive, &key("web", "ünd so=weiter%2f")).await?.as_deref() == Some(&b"odd\n"[..]));
    let web = key("web", "");
    ensure!(archive.list(&web.pod, &web.uid).await?.len() == 2);

    archive.write(&key("other", "app"), body(vec![Bytes::from_static(b"other\n")])).await?;
    archive.remove(&web.pod, &web.uid).await?;
    ensure!(text(&archive, &key("web", "app")).await?.is_none() && text(&archive, &key("other", "app")).await?.is_some());
    let rules = SweepRules { keep_for: DurationMs(0), bytes_max: None };
    let later = Timestamp(u64::MAX / 2);
    ensure!(archive.sweep(later, rules, |uid| uid == "other-uid").await?.pods == 0, "its pod is there");
    ensure!(archive.sweep(later, rules, |_| false).await?.pods == 0, "it is marked first");
    ensure!(archive.sweep(later, rules, |_| false).await?.pods == 1);
    ensure!(text(&archive, &key("other", "app")).await?.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_setting_is_told_what_is_wrong() -> Result<()> {
    if !available("a_wrong_setting_is_told_what_is_wrong", &[Program::S3]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut store = Store::s3(folder.path(), "logs").await?;
    let good = options(&store);
    let probe = async |options: S3Options| LogArchive::s3(&options)?.probe().await;
    let no_bucket = probe(S3Options { bucket: "elsewhere".to_owned(), ..good.clone() }).await;
    ensure!(matches!(no_bucket, Err(ArchiveError::NoBucket(..))), "{no_bucket:?}");
    let secret = Some((S3_KEY.0.to_owned(), "wrong".to_owned()));
    let wrong_secret = probe(S3Options { credentials: secret, ..good.clone() }).await;
    ensure!(matches!(wrong_secret, Err(ArchiveError::Credentials(..))), "{wrong_secret:?}");
    let stranger = Some(("nobody".to_owned(), "wrong".to_owned()));
    let stranger = probe(S3Options { credentials: stranger, ..good.clone() }).await;
    ensure!(matches!(stranger, Err(ArchiveError::Credentials(..))), "{stranger:?}");
    store.process.kill()?;
    let down = probe(good).await;
    ensure!(matches!(down, Err(ArchiveError::Unavailable(..))), "{down:?}");
    Ok(())
}

//! Logs that outlive their pods. In: the log of a container, as it is read from the cluster where it ran. Out: one object for each in a folder or an S3
//! bucket; the same text whenever somebody asks `kubectl logs` for it, until its time is over.
//!
//! ```text
//! <prefix>/<namespace>/<pod>_<uid>/<container>.log            the text; `.previous.log` for the life before the last restart
//! <prefix>/<namespace>/<pod>_<uid>/<container>.log.json       its receipt: bytes, SHA-256, whether it is whole
//! <prefix>/<namespace>/<pod>_<uid>/gone                       the pod was found gone when this was written: its logs' time runs
//! ```
//!
//! Nothing else is remembered: who may still read what follows from what is stored. Texts are what API servers send for `timestamps=true`.

mod answers;
mod error;
mod key;
mod sweep;
#[cfg(test)]
mod tests;
mod write;

use std::{path::Path as FilePath, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt as _, RetryConfig, aws::AmazonS3Builder, local::LocalFileSystem, memory::InMemory,
    path::Path,
};

pub use self::{
    error::ArchiveError,
    key::{LogKey, LogReceipt},
    sweep::{SweepRules, Swept},
};
use crate::model::{
    ids::{PodKey, PodUid},
    time::Timestamp,
};

/// A log longer than this is cut unless the configuration says otherwise.
pub const LOG_BYTES_MAX: u64 = 256 << 20;
/// S3 takes no smaller part of an upload than this, but for the last.
const S3_PART_BYTES: usize = 5 << 20;
/// Held of a log before it is written to a file.
const FILE_PART_BYTES: usize = 256 << 10;
/// Longest wait for a connection to S3.
const S3_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a failed call to S3 is repeated.
const S3_RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is repeated at most.
const S3_RETRIES_MAX: usize = 4;

/// An S3 bucket and how it is reached. What is `None` is taken from the environment, as AWS names it (`AWS_REGION`, `AWS_ACCESS_KEY_ID`, a web identity
/// token file), or from the machine.
#[derive(Clone, Default)]
pub struct S3Options {
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with; empty: nothing.
    pub prefix: String,
    /// Where it is if not at AWS: `https://minio.example:9000`.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Access key ID and secret access key.
    pub credentials: Option<(String, String)>,
    /// An endpoint without TLS is meant.
    pub allow_http: bool,
}

/// The archive. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct LogArchive {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    part_bytes: usize,
    log_bytes_max: u64,
    /// What addresses of logs begin with.
    address: Arc<str>,
}

/// A log that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLog {
    /// Path of the text below the archive's root.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written.
    pub written_at: Timestamp,
}

/// The text of a log.
pub type LogText = BoxStream<'static, Result<Bytes, ArchiveError>>;

impl LogArchive {
    /// Logs in a folder, which is made if there is none.
    pub fn folder(path: &FilePath) -> Result<Self, ArchiveError> {
        std::fs::create_dir_all(path).map_err(|error| ArchiveError::Folder(path.display().to_string(), error))?;
        sweep::clear_unfinished(path);
        let store = LocalFileSystem::new_with_prefix(path).map_err(|error| ArchiveError::of("opening the folder", error))?;
        let address = format!("file://{}", path.display());
        Ok(Self::over(Arc::new(store.with_automatic_cleanup(true)), Path::default(), FILE_PART_BYTES, &address))
    }

    /// Logs in a bucket. Nothing is asked of it yet: see [`Self::probe`].
    pub fn s3(options: &S3Options) -> Result<Self, ArchiveError> {
        // The process's provider of cryptography; already set is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry = RetryConfig { max_retries: S3_RETRIES_MAX, retry_timeout: S3_RETRY_TIMEOUT, ..RetryConfig::default() };
        let client = ClientOptions::new().with_connect_timeout(S3_CONNECT_TIMEOUT).with_allow_http(options.allow_http);
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(&options.bucket).with_client_options(client).with_retry(retry);
        if let Some(endpoint) = &options.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        if let Some(region) = &options.region {
            builder = builder.with_region(region);
        }
        if let Some((id, secret)) = &options.credentials {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        let failed = |error| ArchiveError::of("setting up the connection to S3", error);
        let store = builder.build().map_err(failed)?;
        let prefix = Path::parse(options.prefix.trim_matches('/')).map_err(|error| failed(error.into()))?;
        Ok(Self::over(Arc::new(store), prefix, S3_PART_BYTES, &format!("s3://{}", options.bucket)))
    }

    /// Logs in memory, for tests and the demo.
    pub fn in_memory() -> Self {
        Self::over(Arc::new(InMemory::new()), Path::default(), FILE_PART_BYTES, "memory://")
    }

    fn over(store: Arc<dyn ObjectStore>, prefix: Path, part_bytes: usize, address: &str) -> Self {
        Self { store, prefix, part_bytes, log_bytes_max: LOG_BYTES_MAX, address: address.into() }
    }

    /// Where everything is that is kept of a pod, for people.
    pub fn address_of(&self, pod: &PodKey, uid: &PodUid) -> String {
        let folder = key::pod_folder(pod, uid);
        if self.prefix.as_ref().is_empty() {
            format!("{}/{folder}", self.address)
        } else {
            format!("{}/{}/{folder}", self.address, self.prefix)
        }
    }

    /// The same, where a longer log is cut.
    #[must_use]
    pub fn with_log_bytes_max(self, log_bytes_max: u64) -> Self {
        Self { log_bytes_max, ..self }
    }

    /// Whether it can be written to: to say at start what is wrong, not when the first log is lost.
    pub async fn probe(&self) -> Result<(), ArchiveError> {
        let path = self.prefix.clone().join("isobar-probe");
        let failed = |error| ArchiveError::of("trying whether it can be written to", error);
        self.store.put(&path, Bytes::from_static(b"isobar").into()).await.map_err(failed)?;
        self.store.delete(&path).await.map_err(failed)
    }

    /// The text of a log; `None` when none is kept.
    pub async fn read(&self, key: &LogKey) -> Result<Option<LogText>, ArchiveError> {
        let what = || format!("reading the log of {key}");
        match self.store.get(&self.at(&key.text_path())?).await {
            Ok(answer) => {
                let what = what();
                Ok(Some(answer.into_stream().map_err(move |error| ArchiveError::of(&what, error)).boxed()))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(ArchiveError::of(&what(), error)),
        }
    }

    /// What is said of a log that is kept.
    pub async fn receipt(&self, key: &LogKey) -> Result<Option<LogReceipt>, ArchiveError> {
        let failed = |error| ArchiveError::of(&format!("reading the receipt of {key}"), error);
        match self.store.get(&self.at(&key.receipt_path())?).await {
            Ok(answer) => Ok(LogReceipt::from_json(&answer.bytes().await.map_err(failed)?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// The texts that are kept of a pod.
    pub async fn list(&self, pod: &PodKey, uid: &PodUid) -> Result<Vec<KeptLog>, ArchiveError> {
        let folder = self.at(&key::pod_folder(pod, uid))?;
        let failed = |error| ArchiveError::of(&format!("listing the logs of {pod}"), error);
        let objects: Vec<_> = self.store.list(Some(&folder)).try_collect().await.map_err(failed)?;
        let texts = objects.into_iter().filter(|object| object.location.as_ref().ends_with(key::TEXT));
        Ok(texts
            .map(|object| KeptLog { written_at: sweep::written_at(&object), path: object.location.into(), bytes: object.size })
            .collect())
    }

    /// Drops everything that is kept of a pod.
    pub async fn remove(&self, pod: &PodKey, uid: &PodUid) -> Result<(), ArchiveError> {
        let folder = self.at(&key::pod_folder(pod, uid))?;
        let failed = |error| ArchiveError::of(&format!("removing the logs of {pod}"), error);
        let objects: Vec<_> = self.store.list(Some(&folder)).try_collect().await.map_err(failed)?;
        self.delete(objects.into_iter().map(|object| object.location).collect()).await
    }

    async fn delete(&self, paths: Vec<Path>) -> Result<(), ArchiveError> {
        let mut answers = self.store.delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(ArchiveError::of("removing logs", error)),
            }
        }
        Ok(())
    }

    fn at(&self, relative: &str) -> Result<Path, ArchiveError> {
        let relative = Path::parse(relative).map_err(|error| ArchiveError::of("naming a log", error.into()))?;
        Ok(self.prefix.parts().chain(relative.parts()).collect())
    }
}

//! What others ask of an archive. In: logs of runs to be kept, and questions of the kubelet endpoint. Out: both answered: they name what they need, the
//! archive fulfils it.

use std::{future::Future, io, pin::Pin};

use futures::{StreamExt as _, future::BoxFuture};

use super::{LogArchive, LogKey, LogReceipt};
use crate::{
    http::kubelet::{ArchiveError, ArchivedLog, ArchivedLogs, LogStream},
    kubernetes::{
        runs::{LogBody, LogOf, LogStore},
        tasks::{KeptLog, RunLogs},
    },
    model::ids::{PodKey, PodUid},
};

impl ArchivedLogs for LogArchive {
    fn read<'a>(&'a self, wanted: &'a ArchivedLog) -> Pin<Box<dyn Future<Output = Result<Option<LogStream>, ArchiveError>> + Send + 'a>> {
        Box::pin(async move {
            let key = LogKey {
                pod: PodKey::new(&wanted.namespace, &wanted.pod),
                uid: PodUid::from(&*wanted.uid),
                container: (&*wanted.container).into(),
                previous: wanted.previous,
            };
            let text = LogArchive::read(self, &key).await.map_err(|error| ArchiveError(error.to_string()))?;
            Ok(text.map(|text| text.map(|chunk| chunk.map_err(io::Error::other)).boxed()))
        })
    }
}

impl LogStore for LogArchive {
    fn keep(&self, log: LogOf, body: LogBody) -> BoxFuture<'_, Result<(u64, bool), String>> {
        let key = LogKey { pod: log.home, uid: log.uid, container: log.container, previous: log.previous };
        Box::pin(async move {
            let receipt = self.write(&key, body).await.map_err(|error| error.to_string())?;
            Ok((receipt.bytes, receipt.complete))
        })
    }
}

impl RunLogs for LogArchive {
    fn keep(&self, log: LogOf, body: LogBody, bytes_max: u64) -> BoxFuture<'_, Result<KeptLog, String>> {
        let key = LogKey { pod: log.home, uid: log.uid, container: log.container, previous: log.previous };
        Box::pin(async move {
            let archive = self.clone().with_log_bytes_max(bytes_max.min(self.log_bytes_max));
            archive.write(&key, body).await.map(kept).map_err(|error| error.to_string())
        })
    }

    fn kept<'a>(&'a self, log: &'a LogOf) -> BoxFuture<'a, Result<Option<KeptLog>, String>> {
        let LogOf { home, uid, container, previous } = log.clone();
        let key = LogKey { pod: home, uid, container, previous };
        Box::pin(async move { self.receipt(&key).await.map(|receipt| receipt.map(kept)).map_err(|error| error.to_string()) })
    }

    fn address(&self, pod: &PodKey, uid: &PodUid) -> String {
        self.address_of(pod, uid)
    }
}

fn kept(LogReceipt { bytes, sha256, complete, .. }: LogReceipt) -> KeptLog {
    KeptLog { bytes, sha256, complete }
}

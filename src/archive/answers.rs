//! What others ask of an archive. In: the question of the kubelet endpoint. Out: its answer: the endpoint names what it needs, the archive fulfils it.

use std::{future::Future, io, pin::Pin};

use futures::StreamExt as _;

use super::{LogArchive, LogKey};
use crate::{
    http::kubelet::{ArchiveError, ArchivedLog, ArchivedLogs, LogStream},
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

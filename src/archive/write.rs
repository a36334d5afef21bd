//! Writing a log. In: its bytes as they come, perhaps without end, perhaps broken off. Out: an object that readers see whole or not at all, and a receipt.

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use object_store::{ObjectStoreExt as _, WriteMultipart, path::Path};
use sha2::{Digest as _, Sha256};

use super::{ArchiveError, LogArchive, LogKey, LogReceipt};

/// Parts of one log that are under way to the store at once: with the one that is filled it bounds the memory of a log.
const PARTS_IN_FLIGHT_MAX: usize = 1;

/// What was written so far.
struct Tally {
    bytes: u64,
    left: u64,
    digest: Sha256,
}

impl Tally {
    fn take(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        self.digest.update(chunk);
    }
}

/// A text under way: held until it fills a part, then uploaded part by part.
enum Text {
    Held(Vec<u8>),
    Sent(WriteMultipart),
}

impl LogArchive {
    /// Keeps a log in place of what is kept of it. What breaks off is kept as far as it came, unless more is kept already.
    pub async fn write<E>(&self, key: &LogKey, body: impl Stream<Item = Result<Bytes, E>> + Send) -> Result<LogReceipt, ArchiveError> {
        let failed = |error| ArchiveError::of(&format!("keeping the log of {key}"), error);
        let path = self.at(&key.text_path())?;
        let mut body = std::pin::pin!(body);
        let mut tally = Tally { bytes: 0, left: self.log_bytes_max, digest: Sha256::new() };
        let (mut text, mut complete, mut cut) = (Text::Held(Vec::new()), true, false);
        while let Some(chunk) = body.next().await {
            let Ok(mut chunk) = chunk else {
                complete = false;
                break;
            };
            cut = chunk.len() as u64 > tally.left;
            if cut {
                chunk.truncate(usize::try_from(tally.left).unwrap_or(usize::MAX));
            }
            tally.left -= chunk.len() as u64;
            text = self.append(text, &path, &chunk, &mut tally).await.map_err(failed)?;
            if cut {
                let mark = format!("\n[isobar: the log is longer than {} bytes; the rest was not kept]\n", self.log_bytes_max);
                text = self.append(text, &path, mark.as_bytes(), &mut tally).await.map_err(failed)?;
                break;
            }
        }
        let receipt = LogReceipt { bytes: tally.bytes, sha256: tally.digest.finalize().into(), complete, cut };
        if !complete && self.keeps_more(&path, receipt.bytes).await {
            self.drop_text(text).await;
            return Ok(receipt);
        }
        self.finish(text, &path).await.map_err(failed)?;
        self.store.put(&self.at(&key.receipt_path())?, receipt.to_json().into()).await.map_err(failed)?;
        Ok(receipt)
    }

    async fn append(&self, text: Text, path: &Path, chunk: &[u8], tally: &mut Tally) -> object_store::Result<Text> {
        tally.take(chunk);
        let mut upload = match text {
            Text::Held(mut held) if held.len() + chunk.len() <= self.part_bytes => {
                held.extend_from_slice(chunk);
                return Ok(Text::Held(held));
            }
            Text::Held(held) => {
                let mut upload = WriteMultipart::new_with_chunk_size(self.store.put_multipart(path).await?, self.part_bytes);
                upload.write(&held);
                upload
            }
            Text::Sent(upload) => upload,
        };
        upload.write(chunk);
        match upload.wait_for_capacity(PARTS_IN_FLIGHT_MAX).await {
            Ok(()) => Ok(Text::Sent(upload)),
            Err(error) => {
                // What is wrong was said; parts that cannot be dropped are the bucket's to forget.
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }

    async fn finish(&self, text: Text, path: &Path) -> object_store::Result<()> {
        match text {
            Text::Held(held) => self.store.put(path, held.into()).await?,
            Text::Sent(upload) => upload.finish().await?,
        };
        Ok(())
    }

    async fn drop_text(&self, text: Text) {
        if let Text::Sent(upload) = text
            && let Err(error) = upload.abort().await
        {
            tracing::warn!("parts of a log that is not needed stay in the archive: {error}");
        }
    }

    async fn keeps_more(&self, path: &Path, bytes: u64) -> bool {
        self.store.head(path).await.is_ok_and(|kept| kept.size > bytes)
    }
}

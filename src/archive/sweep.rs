//! Forgetting logs. In: which pods there are, how long and how much is kept. Out: folders of pods whose time is over are gone.
//!
//! A pod that is found gone gets a mark, and its logs are kept for a while from then on. The mark is in the store, so a restart does not begin anew.

use std::{collections::BTreeMap, path::Path as FilePath, time::Duration};

use futures::TryStreamExt as _;
use object_store::{ObjectMeta, ObjectStoreExt as _, path::Path};

use super::{ArchiveError, LogArchive};
use crate::model::time::{DurationMs, Timestamp};

/// Name of the mark.
const GONE: &str = "gone";
/// A log that nobody has written to for this long is not being written.
const UNFINISHED_STAY: Duration = Duration::from_secs(24 * 3600);

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepRules {
    /// Logs are kept as long as their pod, and so much longer.
    pub keep_for: DurationMs,
    /// All logs together; those of pods that are gone longest make room first.
    pub bytes_max: Option<u64>,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Pods whose logs were dropped.
    pub pods: usize,
    /// Bytes dropped.
    pub bytes: u64,
    /// Bytes kept.
    pub kept_bytes: u64,
}

#[derive(Default)]
struct Folder {
    objects: Vec<Path>,
    bytes: u64,
    newest: Timestamp,
    gone_at: Option<Timestamp>,
    alive: bool,
}

impl LogArchive {
    /// Looks through everything. `alive` says whether a pod with that UID exists; whoever does not know yet must not sweep.
    pub async fn sweep(&self, now: Timestamp, rules: SweepRules, alive: impl Fn(&str) -> bool + Send) -> Result<Swept, ArchiveError> {
        let mut swept = Swept::default();
        let mut kept = Vec::new();
        for (path, mut folder) in self.folders().await? {
            folder.alive = uid_of(&path).is_some_and(&alive);
            match folder.gone_at {
                // A mark that was set by mistake: the time has not begun.
                Some(_) if folder.alive => self.delete(vec![mark(&path)]).await?,
                Some(at) if at + rules.keep_for <= now => {
                    self.drop_folder(folder, &mut swept).await?;
                    continue;
                }
                None if !folder.alive => {
                    let failed = |error| ArchiveError::of("marking the logs of a pod that is gone", error);
                    self.store.put(&mark(&path), now.0.to_string().into()).await.map_err(failed)?;
                    folder.objects.push(mark(&path));
                }
                _ => {}
            }
            swept.kept_bytes += folder.bytes;
            kept.push(folder);
        }
        kept.sort_by_key(|folder| (folder.alive, folder.gone_at.unwrap_or(folder.newest)));
        let mut oldest = kept.into_iter();
        while rules.bytes_max.is_some_and(|most| swept.kept_bytes > most)
            && let Some(folder) = oldest.next()
        {
            swept.kept_bytes -= folder.bytes;
            self.drop_folder(folder, &mut swept).await?;
        }
        Ok(swept)
    }

    async fn folders(&self) -> Result<BTreeMap<Path, Folder>, ArchiveError> {
        let prefix = (self.prefix.parts().count() > 0).then_some(&self.prefix);
        let depth = self.prefix.parts().count() + 2;
        let mut folders: BTreeMap<Path, Folder> = BTreeMap::new();
        let mut objects = self.store.list(prefix);
        while let Some(object) = objects.try_next().await.map_err(|error| ArchiveError::of("listing all logs", error))? {
            let parts: Vec<_> = object.location.parts().collect();
            // What others put there is none of ours.
            if parts.len() != depth + 1 {
                continue;
            }
            let path: Path = parts[..depth].iter().cloned().collect();
            let is_mark = parts[depth].as_ref() == GONE;
            let folder = folders.entry(path).or_default();
            folder.bytes += object.size;
            if is_mark {
                folder.gone_at = Some(written_at(&object));
            } else {
                folder.newest = folder.newest.max(written_at(&object));
            }
            folder.objects.push(object.location);
        }
        Ok(folders)
    }

    async fn drop_folder(&self, folder: Folder, swept: &mut Swept) -> Result<(), ArchiveError> {
        (swept.pods, swept.bytes) = (swept.pods + 1, swept.bytes + folder.bytes);
        self.delete(folder.objects).await
    }
}

fn mark(folder: &Path) -> Path {
    folder.clone().join(GONE)
}

/// The UID stands last in a folder's name.
fn uid_of(folder: &Path) -> Option<&str> {
    folder.as_ref().rsplit_once('_').map(|(_, uid)| uid)
}

/// When an object was written, as its store says.
pub(super) fn written_at(object: &ObjectMeta) -> Timestamp {
    Timestamp(u64::try_from(object.last_modified.timestamp_millis()).unwrap_or(0))
}

/// Drops what writers left that ended in the middle of a log: the store writes to a file with `#` and a number after its name, renames it at the end, and never
/// lists it. Only old ones: another replica may be writing to the same folder.
pub(super) fn clear_unfinished(root: &FilePath) {
    let entries =
        |folder: &FilePath| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    let files = entries(root).into_iter().flat_map(|namespace| entries(&namespace)).flat_map(|pod| entries(&pod));
    for file in files.filter(|file| file.file_name().is_some_and(|name| name.to_string_lossy().contains('#'))) {
        let age = file.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|written| written.elapsed().ok());
        if age.is_some_and(|age| age > UNFINISHED_STAY)
            && let Err(error) = std::fs::remove_file(&file)
        {
            tracing::warn!(file = %file.display(), "an unfinished log stays in the archive: {error}");
        }
    }
}

//! Logs of runs, kept before their pods go. In: a pod that has ended, or one that runs. Out: one log a container in the archive, with size and hash.
//!
//! A log is followed while its container runs: that is what is left if node and pod go together. At the end it is read again from the beginning, unless the
//! copy is whole. Of a pod on a compute cluster the federation keeps the logs in the same place; only what it did not keep is read, by way of the API server.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use http::StatusCode;
use rustc_hash::FxHashMap;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Semaphore, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{pods_path, run_path};
use crate::{
    federation::names::CLUSTER,
    kubernetes::runs::{
        LogBody, LogOf,
        logs::{SILENCE_MAX, logged, stream},
        port::{Port, Trouble, annotation, text},
    },
    model::ids::{PodKey, PodUid},
    tasks::{
        effect::{Outcome, Subject},
        facts::Key,
        run::SavedLogs,
    },
};

/// Logs followed at once, a connection each; further ones are copied at their end.
const FOLLOWED_MAX: usize = 512;
/// Bytes of a container's log, for runs that do not say.
const BYTES_MAX: u64 = 64 << 20;
/// How long the end of a log that is followed is waited for, and how often it is looked for.
const FOLLOWER_LOOKS: u32 = 60;
const FOLLOWER_LOOK: Duration = Duration::from_millis(50);
/// The same of the federation's copy.
const COPY_LOOKS: u32 = 20;
const COPY_LOOK: Duration = Duration::from_millis(500);
/// Logs read at once. Waiting for the end of what is followed, or for another's copy, is none.
const READ_MAX: usize = 16;

/// What is said of a log that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptLog {
    /// Bytes that are kept.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
    /// It was read to its end, or as far as logs may be long.
    pub complete: bool,
}

/// Where logs are kept.
pub trait RunLogs: Send + Sync {
    /// Keeps a log, at most so many bytes of it, in place of what is kept of it. A body that breaks is kept as far as it came.
    fn keep(&self, log: LogOf, body: LogBody, bytes_max: u64) -> BoxFuture<'_, Result<KeptLog, String>>;
    /// What is kept of a log.
    fn kept<'a>(&'a self, log: &'a LogOf) -> BoxFuture<'a, Result<Option<KeptLog>, String>>;
    /// Address of all logs of a pod.
    fn address(&self, pod: &PodKey, uid: &PodUid) -> String;
}

/// Keeps logs, if there is somewhere to keep them. Cheap to clone.
#[derive(Clone)]
pub(super) struct LogDesk {
    store: Option<Arc<dyn RunLogs>>,
    followed: Arc<Mutex<FxHashMap<LogOf, Followed>>>,
    reading: Arc<Semaphore>,
}

/// A copy made while the container runs.
#[derive(Debug)]
struct Followed {
    /// Which life of the container.
    id: Box<str>,
    under_way: bool,
    kept: Option<KeptLog>,
    /// Ends the copying where the kubelet does not.
    stop: CancellationToken,
}

/// A container whose log is to be kept.
struct Speaker {
    name: Box<str>,
    id: Box<str>,
    restarted: bool,
}

impl LogDesk {
    pub(super) fn new(store: Option<Arc<dyn RunLogs>>) -> Self {
        Self { store, followed: Arc::default(), reading: Arc::new(Semaphore::new(READ_MAX)) }
    }

    /// Copies to be made while these containers of a pod run, each to be awaited on a task of its own.
    pub(super) fn follow(
        &self,
        port: &Port,
        pod: &Key,
        uid: &str,
        speaking: &[(Box<str>, Box<str>)],
        bytes_max: u64,
    ) -> Vec<impl Future<Output = ()> + Send + use<>> {
        let Some(store) = self.store.as_ref().filter(|_| !speaking.is_empty()) else { return Vec::new() };
        let mut begun = Vec::new();
        let mut followed = self.lock();
        for (container, id) in speaking {
            let log = log_of(pod, uid, container, false);
            let known = followed.get(&log).is_some_and(|known| known.under_way || known.id == *id);
            if known || followed.values().filter(|followed| followed.under_way).count() >= FOLLOWED_MAX {
                continue;
            }
            let stop = CancellationToken::new();
            followed.insert(log.clone(), Followed { id: id.clone(), under_way: true, kept: None, stop: stop.clone() });
            let (desk, store, port) = (self.clone(), store.clone(), port.clone());
            begun.push(async move {
                let copying = async {
                    match port.open(log_path(&log, true)).await {
                        Ok(body) => store.keep(log.clone(), stream(body, None), bytes_or_default(bytes_max)).await,
                        Err(trouble) => Err(trouble.to_string()),
                    }
                };
                let stopped = || Err("its container has ended, and what is told of it has not".to_owned());
                let kept = stop.run_until_cancelled(copying).await.unwrap_or_else(stopped);
                if let Err(why) = &kept {
                    tracing::info!(pod = %log.home, container = &*log.container, "its log is copied at its end, as it cannot be followed: {why}");
                }
                if let Some(followed) = desk.lock().get_mut(&log) {
                    (followed.kept, followed.under_way) = (kept.ok(), false);
                }
            });
        }
        begun
    }

    /// A pod is gone, or its logs are saved. What is still being followed is waited for by whoever saves it.
    pub(super) fn forget(&self, uid: &str) {
        self.lock().retain(|log, followed| *log.uid.0 != *uid || followed.under_way);
    }

    /// Keeps all logs of a pod that has ended.
    pub(super) async fn save(&self, port: &Port, of: &Subject, pod: &Key, uid: &str, bytes_max: u64) -> Result<Outcome, Trouble> {
        let Some(store) = &self.store else {
            return Ok(saved(SavedLogs { message: "no archive of logs is configured".to_owned(), ..SavedLogs::default() }));
        };
        let bytes_max = bytes_or_default(bytes_max);
        let found = port.get(format!("{}/{}", pods_path(&pod.namespace), pod.name)).await?;
        let found = found.filter(|found| text(found, "/metadata/uid") == uid);
        if let Some(found) = found.as_ref().filter(|found| !annotation(found, CLUSTER).is_empty()) {
            await_copies(&**store, pod, uid, &speakers(&found["status"])).await?;
        }
        let speakers = match (&found, of) {
            (Some(found), _) => speakers(&found["status"]),
            (None, Subject::Run(run)) => {
                let run = port.get(run_path(run)).await?.unwrap_or_default();
                containers(&run["spec"]["frozen"]["template"]["spec"])
            }
            (None, _) => Vec::new(),
        };
        let (mut kept, mut missing) = (Vec::new(), Vec::new());
        for speaker in speakers {
            let lives: &[bool] = if speaker.restarted { &[true, false] } else { &[false] };
            for previous in lives {
                let log = log_of(pod, uid, &speaker.name, *previous);
                let one = self.one(&**store, port, &log, &speaker, found.is_some(), bytes_max).await?;
                if one.is_none_or(|one| !one.complete) {
                    missing.push(format!("{}{}", speaker.name, if *previous { " before its restart" } else { "" }));
                }
                kept.extend(one.map(|one| (speaker.name.clone(), one)));
            }
        }
        self.forget(uid);
        let message = match (missing.is_empty(), found.is_some()) {
            (true, _) => String::new(),
            (false, true) => format!("there is no log, or only a part of it, of {}", missing.join(", ")),
            (false, false) => format!("the pod was gone before the end was read of the log of {}", missing.join(", ")),
        };
        Ok(saved(SavedLogs {
            uri: store.address(&key_of(pod), &uid.into()),
            bytes: kept.iter().map(|(_, kept)| kept.bytes).sum(),
            sha256: digest(&kept),
            complete: missing.is_empty(),
            message,
        }))
    }

    /// One log: what is kept of it if that is whole, or else read from its beginning. `None`: there is none.
    async fn one(
        &self,
        store: &dyn RunLogs,
        port: &Port,
        log: &LogOf,
        speaker: &Speaker,
        is_there: bool,
        bytes_max: u64,
    ) -> Result<Option<KeptLog>, Trouble> {
        let followed = self.followed(log, &speaker.id).await;
        if let Some(kept) = followed.filter(|kept| kept.complete) {
            return Ok(Some(kept));
        }
        let kept = store.kept(log).await.map_err(Trouble::Unclear)?;
        if !is_there || (!speaker.restarted && kept.is_some_and(|kept| kept.complete)) {
            return Ok(kept);
        }
        // Nobody closes it.
        let _turn = self.reading.acquire().await.ok();
        let body = match port.open(log_path(log, false)).await {
            // Told by the server: this container has no such log (any more).
            Err(Trouble::Refused(StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND, why)) => {
                tracing::warn!(pod = %log.home, container = &*log.container, previous = log.previous, "there is no log to keep: {why}");
                return Ok(kept);
            }
            other => other?,
        };
        let kept = store.keep(log.clone(), stream(body, Some(SILENCE_MAX)), bytes_max).await.map_err(Trouble::Unclear)?;
        if kept.complete { Ok(Some(kept)) } else { Err(Trouble::Unclear("the log broke off before its end".to_owned())) }
    }

    /// What was followed of this life of a container; without an identity, of its last one. The end comes with the container's: that is waited for, but not
    /// for long.
    async fn followed(&self, log: &LogOf, id: &str) -> Option<KeptLog> {
        for _ in 0..FOLLOWER_LOOKS {
            let known = self
                .lock()
                .get(log)
                .filter(|known| (id.is_empty() || *known.id == *id) && !log.previous)
                .map(|known| (known.under_way, known.kept));
            match known {
                Some((true, _)) => sleep(FOLLOWER_LOOK).await,
                Some((false, kept)) => return kept,
                None => return None,
            }
        }
        // Some kubelets go on for ever: it is read anew, and the connection given back.
        if let Some(known) = self.lock().get(log) {
            known.stop.cancel();
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<LogOf, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The federation copies logs when a run has ended over there: that is waited for, so that none is copied twice, but not for long.
async fn await_copies(store: &dyn RunLogs, pod: &Key, uid: &str, speakers: &[Speaker]) -> Result<(), Trouble> {
    for _ in 0..COPY_LOOKS {
        let mut all = true;
        for speaker in speakers {
            let kept = store.kept(&log_of(pod, uid, &speaker.name, false)).await.map_err(Trouble::Unclear)?;
            all &= kept.is_some_and(|kept| kept.complete);
        }
        if all {
            break;
        }
        sleep(COPY_LOOK).await;
    }
    Ok(())
}

fn saved(logs: SavedLogs) -> Outcome {
    Outcome::Logs(Box::new(logs))
}

fn bytes_or_default(bytes_max: u64) -> u64 {
    if bytes_max == 0 { BYTES_MAX } else { bytes_max }
}

fn key_of(pod: &Key) -> PodKey {
    PodKey::new(&pod.namespace, &pod.name)
}

fn log_of(pod: &Key, uid: &str, container: &str, previous: bool) -> LogOf {
    LogOf { home: key_of(pod), uid: uid.into(), container: container.into(), previous }
}

fn log_path(log: &LogOf, follow: bool) -> String {
    let previous = if log.previous { "&previous=true" } else { "" };
    let follow = if follow { "&follow=true" } else { "" };
    let (pods, pod, container) = (pods_path(&log.home.namespace), &log.home.name, &log.container);
    format!("{pods}/{pod}/log?container={container}&timestamps=true{previous}{follow}")
}

fn speakers(status: &Value) -> Vec<Speaker> {
    let all = logged(status).into_iter();
    all.map(|one| Speaker { name: one.name.into(), id: one.id.into(), restarted: one.restarted }).collect()
}

/// Of a pod that is gone: those that it was made with.
fn containers(spec: &Value) -> Vec<Speaker> {
    let lists = ["initContainers", "containers"].into_iter().filter_map(|list| spec[list].as_array());
    lists.flatten().map(|one| Speaker { name: text(one, "/name").into(), id: "".into(), restarted: false }).collect()
}

/// The hash of one log; of several, that of the list of their hashes as `sha256sum` writes it.
fn digest(kept: &[(Box<str>, KeptLog)]) -> String {
    let hex = |digest: &[u8]| {
        digest.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing into a string does not fail.
            _ = write!(text, "{byte:02x}");
            text
        })
    };
    match kept {
        [] => String::new(),
        [(_, one)] => hex(&one.sha256),
        several => {
            let list = several.iter().fold(String::new(), |mut list, (name, one)| {
                _ = writeln!(list, "{}  {name}", hex(&one.sha256));
                list
            });
            hex(&Sha256::digest(list.as_bytes()))
        }
    }
}

//! Questions to the engine for another node of a cluster. In: a pod and the nodes that refused it; later, the engine's answer. Out: the node, or none.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustc_hash::FxHashMap;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    federation::effect::Outcome,
    model::ids::{ClusterId, PodKey, PodUid},
    scheduler::input::Input,
};

/// How long the engine may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Who waits for the answer about which pod.
type Asked = FxHashMap<PodUid, oneshot::Sender<Option<Box<str>>>>;

/// Questions under way; a pod has at most one. Cheap to clone.
#[derive(Clone)]
pub struct Placings {
    engine: mpsc::Sender<Input>,
    asked: Arc<Mutex<Asked>>,
}

impl Placings {
    /// Asks this engine.
    pub fn new(engine: mpsc::Sender<Input>) -> Self {
        Self { engine, asked: Arc::default() }
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, key: &PodKey, uid: &PodUid, cluster: ClusterId, not_on: &[Box<str>]) -> Outcome {
        let (answer, answered) = oneshot::channel();
        self.lock().insert(uid.clone(), answer);
        let question = Input::PlaceAgain { key: key.clone(), uid: uid.clone(), cluster, not_on: not_on.to_vec() };
        if self.engine.send(question).await.is_err() {
            return Outcome::NotSent;
        }
        if let Ok(Ok(node)) = timeout(ANSWER_TIMEOUT, answered).await {
            Outcome::Node(node)
        } else {
            self.lock().remove(uid);
            Outcome::Retry(format!("the engine named no other node within {} s", ANSWER_TIMEOUT.as_secs()))
        }
    }

    /// Takes in the engine's answer. One that nobody waits for is dropped.
    pub fn answer(&self, uid: &PodUid, node: Option<Box<str>>) {
        if let Some(asked) = self.lock().remove(uid) {
            // Whoever asked has given up at this very moment.
            let _ = asked.send(node);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! HTTP extenders: questions and bindings of the engine in; calls to the webhooks of the configuration; one answer for each out.
//!
//! What is said over the wire is [`protocol`]'s, how it gets there [`remote`]'s, and full objects for those who want them come from [`objects`].

mod ask;
mod objects;
mod protocol;
mod remote;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Duration, sleep},
};

pub use self::remote::ExtenderError;
use self::{objects::Objects, remote::Remote};
use crate::{
    config::resolved::Extender,
    kubernetes::{api::Api, bind::BindWork, leadership::Permission, patch::ConditionDesk},
    metrics::{ExtenderMetrics, Metrics},
    scheduler::{
        extenders::{ExtenderAt, ExtenderSpec, Question},
        input::{BindFailure, BindOrder, Input},
    },
};

/// As long as bindings that may not be sent are kept from the engine, which would order them again at once.
const NOT_SENT_PAUSE: Duration = Duration::from_millis(100);

/// The extenders in force. Cheap to clone; all clones share them.
#[derive(Clone, Default)]
pub struct Extenders(Option<Arc<Shared>>);

struct Shared {
    state: ArcSwap<State>,
    metrics: Metrics,
}

struct State {
    /// Which state of the configuration this is.
    generation: u64,
    list: Vec<Arc<Remote>>,
}

impl std::fmt::Debug for Extenders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extenders").finish_non_exhaustive()
    }
}

impl Extenders {
    /// Reads certificates; calls nobody.
    pub fn new(configured: &[Extender], metrics: &Metrics) -> Result<Self, ExtenderError> {
        let list = remotes(configured, metrics)?;
        let state = ArcSwap::from_pointee(State { generation: 1, list });
        Ok(Self(Some(Arc::new(Shared { state, metrics: metrics.clone() }))))
    }

    /// Others are in force from now on. On an error those of before stay. The engine is to be told [`Self::input`].
    pub fn replace(&self, configured: &[Extender]) -> Result<(), ExtenderError> {
        let Some(shared) = &self.0 else { return Ok(()) };
        let list = remotes(configured, &shared.metrics)?;
        let generation = shared.state.load().generation + 1;
        shared.state.store(Arc::new(State { generation, list }));
        Ok(())
    }

    /// What the engine has to know of them.
    pub fn input(&self) -> Input {
        let Some(shared) = &self.0 else { return Input::Extenders(0, Vec::new()) };
        let state = shared.state.load();
        Input::Extenders(state.generation, state.list.iter().map(|remote| spec(&remote.configured)).collect())
    }

    fn state(&self, generation: u64) -> Option<Arc<State>> {
        let state = self.0.as_ref()?.state.load_full();
        (state.generation == generation).then_some(state)
    }
}

fn remotes(configured: &[Extender], metrics: &Metrics) -> Result<Vec<Arc<Remote>>, ExtenderError> {
    let remote = |extender: &Extender| Remote::new(extender.clone(), ExtenderMetrics::new(metrics, &extender.url_prefix)).map(Arc::new);
    configured.iter().map(remote).collect()
}

fn spec(extender: &Extender) -> ExtenderSpec {
    ExtenderSpec {
        filters: extender.filter_verb.is_some(),
        prioritizes: extender.prioritize_verb.is_some(),
        preempts: extender.preempt_verb.is_some(),
        binds: extender.bind_verb.is_some(),
        managed_resources: extender.managed_resources.iter().map(|resource| resource.name.as_str().into()).collect(),
        timeout: extender.http_timeout,
    }
}

/// What the engine wants of extenders.
enum Errand {
    Ask(Box<Question>),
    Bind(ExtenderAt, Box<BindOrder>),
}

/// Takes the engine's errands; never blocks. The engine bounds how many there are.
#[derive(Clone)]
pub struct ExtenderDesk(mpsc::UnboundedSender<Errand>);

impl ExtenderDesk {
    /// Asks.
    pub fn ask(&self, question: Box<Question>) {
        // Nobody takes errands only when the process ends.
        let _ = self.0.send(Errand::Ask(question));
    }

    /// Has a pod bound.
    pub fn bind(&self, extender: ExtenderAt, order: Box<BindOrder>) {
        let _ = self.0.send(Errand::Bind(extender, order));
    }
}

/// What the errands need.
#[derive(Clone)]
pub struct Surroundings {
    /// Where full objects are.
    pub api: Api,
    /// Whether we may write.
    pub permission: Permission,
    /// Conditions that wait to be written.
    pub conditions: ConditionDesk,
    /// Where answers go.
    pub inputs: mpsc::Sender<Input>,
    /// Who binds where an extender fails that can be ignored.
    pub orders: mpsc::UnboundedSender<BindWork>,
    /// Bindings under way; an order that goes on to others stays counted.
    pub outstanding: Arc<AtomicUsize>,
}

/// A desk, and the part to be run that carries out what is put there.
pub fn extender_desk(extenders: Extenders, surroundings: Surroundings) -> (ExtenderDesk, impl Future<Output = ()> + Send) {
    let (sender, errands) = mpsc::unbounded_channel();
    (ExtenderDesk(sender), run(extenders, surroundings, errands))
}

async fn run(extenders: Extenders, surroundings: Surroundings, mut errands: mpsc::UnboundedReceiver<Errand>) {
    let objects = Arc::new(Objects::new(surroundings.api.clone()));
    let mut tasks = JoinSet::new();
    loop {
        let errand = tokio::select! {
            errand = errands.recv() => errand,
            Some(_) = tasks.join_next() => continue,
        };
        let Some(errand) = errand else { return };
        let (extenders, surroundings, objects) = (extenders.clone(), surroundings.clone(), objects.clone());
        tasks.spawn(async move {
            match errand {
                Errand::Ask(question) => {
                    // One of an earlier configuration: the engine asks anew as soon as it knows of the change.
                    let Some(state) = extenders.state(question.generation) else { return };
                    let remotes: Vec<_> = question.extenders.iter().filter_map(|at| state.list.get(*at).cloned()).collect();
                    let answer = ask::answer(&question, &remotes, &objects).await;
                    let _ = surroundings.inputs.send(Input::Extended(question.pod.uid, question.number, answer)).await;
                }
                Errand::Bind(extender, order) => bind(&extenders, &surroundings, extender, order).await,
            }
        });
    }
}

/// One binding by an extender: as with upstream its word is believed, and the watch shows the pod on its node.
async fn bind(extenders: &Extenders, surroundings: &Surroundings, extender: ExtenderAt, order: Box<BindOrder>) {
    let uid = order.pod.uid.clone();
    let remote = extenders.state(extender.generation).and_then(|state| state.list.get(extender.at).cloned());
    let outcome = match remote {
        None => Err(BindFailure::Failed("the extender that was to bind is not configured any more".to_owned())),
        Some(_) if !surroundings.permission.granted() => {
            sleep(NOT_SENT_PAUSE).await;
            Err(BindFailure::NotSent)
        }
        Some(remote) => {
            surroundings.conditions.withdraw(&uid).await;
            match remote.call(protocol::Verb::Bind, protocol::bind_args(&order)).await.and_then(|body| protocol::read_bind(&body)) {
                Ok(()) => Ok(()),
                Err(why) if remote.configured.ignorable => {
                    tracing::warn!(pod = %order.pod.key, "bound by the API server, as an extender that can be ignored failed: {why}");
                    let _ = surroundings.orders.send(BindWork::Bind(order));
                    return;
                }
                // It may have bound the pod, or be about to.
                Err(why) => Err(BindFailure::Unclear(why)),
            }
        }
    };
    surroundings.outstanding.fetch_sub(1, Ordering::AcqRel);
    let input = match outcome {
        Ok(()) => Input::Bound(uid),
        Err(failure) => Input::BindFailed(uid, failure),
    };
    let _ = surroundings.inputs.send(input).await;
}

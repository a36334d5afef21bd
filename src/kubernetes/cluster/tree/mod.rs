//! One compute cluster, looked after. In: its object, its Secret, what it answers. Out: facts and watches for the engine, a worker for its runs, what is to be
//! seen of it at home.
//!
//! Everything is looked at again and again, each thing at its own pace; a round takes in what there is and brings everything else in line with it. Nothing of
//! a round is remembered that a restart could not find again.

mod connection;
mod removal;
mod rights;
mod tell;
mod work;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use self::work::{Watches, Worker};
use super::{
    Connect, SpawnRuns,
    census::Census,
    contact::Contact,
    debts::Debts,
    directory::ClusterDirectory,
    facts,
    feed::Fleet,
    link::Link,
    object::{ClusterObject, ComputeClusterStatus},
    probe::Missing,
    publish::{Desired, NodeSeen, Publisher},
    rest::Rest,
    status::{Finding, Findings},
    virtual_node::KubeletAddress,
};
use crate::{
    federation::spec::ComputeClusterSpec,
    kubernetes::{
        api::Api,
        clock::Clock,
        leadership::{Leadership, Permission},
    },
    metrics::{ApiMetrics, ClusterMetrics, Metrics},
    model::{cluster::ClusterFacts, fnv::fnv1a, ids::ClusterId, resources::ResourceList, time::Timestamp},
    scheduler::input::Input,
};

/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at what is being removed.
const REMOVAL_EVERY: Duration = Duration::from_secs(2);

/// What all trees have.
pub(super) struct Context {
    pub home: Rest,
    /// Asks for permission before each write.
    pub home_writes: Rest,
    pub home_uid: Box<str>,
    pub clock: Clock,
    pub leadership: watch::Receiver<Leadership>,
    pub inputs: mpsc::Sender<Input>,
    pub directory: ClusterDirectory,
    pub spawn_runs: SpawnRuns,
    pub connect: Connect,
    pub kubelet: watch::Receiver<Option<KubeletAddress>>,
    pub debts: Debts,
    pub metrics: Metrics,
    pub api_metrics: ApiMetrics,
    pub census: Census,
    pub seed: u64,
}

/// A point in time at which something is to be done again.
#[derive(Clone, Copy)]
struct Due(Instant);

impl Due {
    fn now() -> Self {
        Self(Instant::now())
    }

    /// Whether it is time; if so, the next time is after `every`.
    fn take(&mut self, every: Duration) -> bool {
        let now = Instant::now();
        let due = now >= self.0;
        if due {
            self.0 = now + every;
        }
        due
    }
}

/// One compute cluster.
pub(super) struct Tree {
    context: Arc<Context>,
    id: ClusterId,
    name: Box<str>,
    objects: watch::Receiver<Arc<ClusterObject>>,
    object: Arc<ClusterObject>,
    /// The last one that meant something.
    spec: Option<Arc<ComputeClusterSpec>>,
    run_namespace: Box<str>,
    permission: Permission,
    leadership: watch::Receiver<Leadership>,
    suspicion: watch::Receiver<bool>,
    metrics: ClusterMetrics,
    seed: u64,

    link: Link,
    /// The kubeconfig in use, and one that is to be tried.
    installed: Option<String>,
    pending: Option<(String, Api)>,
    contact: Contact,
    /// It answers, and does not know us: our own fault, so nothing is given up.
    unauthorized: bool,
    /// Who is at the other end of the connection in use; what newer credentials that are not used led to.
    identity: Finding,
    astray: Option<Finding>,
    uid: Option<Box<str>>,
    version: String,
    missing: Missing,
    quota: ResourceList,
    owes: Option<bool>,
    findings: Findings,

    watches: Option<Watches>,
    fleet: Fleet,
    worker: Option<Worker>,
    told: Option<ClusterFacts>,
    status: ComputeClusterStatus,
    desired: watch::Sender<Desired>,
    seen: watch::Receiver<NodeSeen>,
    /// Held so that the receiver never finds it gone.
    seen_by_publisher: watch::Sender<NodeSeen>,
    removal: removal::Progress,

    secret_due: Due,
    probe_due: Due,
    identity_due: Due,
    rights_due: Due,
    quota_due: Due,
    debts_due: Due,
}

impl Tree {
    /// Of an object.
    pub(super) fn new(context: Arc<Context>, id: ClusterId, objects: watch::Receiver<Arc<ClusterObject>>) -> Self {
        let object = objects.borrow().clone();
        let name = object.name.clone();
        let leadership = context.leadership.clone();
        let metrics = ClusterMetrics::new(&context.metrics, &name);
        let since = object.status.not_ready_since.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let since = since.and_then(|time| u64::try_from(time.as_millisecond()).ok()).map(Timestamp);
        // What an earlier leader found out holds until the cluster itself says otherwise.
        let known = object.status.cluster_uid.as_deref().filter(|uid| !uid.is_empty() && context.census.claim(uid, &name).is_ok());
        let (uid, version) = (known.map(Into::into), object.status.server_version.clone().unwrap_or_default());
        let fleet = Fleet {
            nodes: object.status.nodes,
            capacity: object.status.capacity.clone().unwrap_or_default(),
            architectures: object.status.architectures.clone(),
            is_listed: false,
        };
        let seen_by_publisher = watch::Sender::new(NodeSeen::default());
        Self {
            link: Link::new(&name, context.api_metrics.clone()),
            permission: Permission::new(leadership.clone()),
            suspicion: context.census.suspicion(),
            contact: Contact::new(context.clock.now(), since),
            seed: fnv1a(context.seed, name.bytes()),
            status: object.status.clone(),
            seen: seen_by_publisher.subscribe(),
            desired: watch::Sender::new(Desired::default()),
            spec: None,
            run_namespace: Box::default(),
            installed: None,
            pending: None,
            unauthorized: false,
            identity: Finding::default(),
            astray: None,
            missing: Missing::default(),
            quota: ResourceList::default(),
            owes: None,
            findings: Findings::default(),
            watches: None,
            worker: None,
            told: None,
            removal: removal::Progress::default(),
            secret_due: Due::now(),
            probe_due: Due::now(),
            identity_due: Due::now(),
            rights_due: Due::now(),
            quota_due: Due::now(),
            debts_due: Due::now(),
            context,
            id,
            name,
            objects,
            object,
            leadership,
            metrics,
            uid,
            version,
            fleet,
            seen_by_publisher,
        }
    }

    /// Looks after the cluster until its object is gone.
    pub(super) async fn run(mut self) {
        let publisher = Publisher {
            cluster: self.name.clone(),
            home: self.context.home_writes.clone(),
            clock: self.context.clock,
            leadership: self.leadership.clone(),
            desired: self.desired.subscribe(),
            seen: self.seen_by_publisher.clone(),
        };
        let mut publishing = tokio::task::JoinSet::new();
        publishing.spawn(publisher.run());
        loop {
            self.round().await;
            if !self.wait().await {
                return;
            }
        }
    }

    async fn round(&mut self) {
        self.take_object().await;
        self.go_on_removing().await;
        self.tell().await;
        // A leader leaves nothing over there before the finalizer is written.
        if self.spec.is_some() && self.is_secured() {
            self.look_at_secret().await;
            self.look_at_cluster().await;
            self.look_at_rights().await;
            self.look_at_quota().await;
            self.look_at_debts().await;
            self.keep_watches();
            self.keep_worker();
        }
        self.tell().await;
    }

    /// Until there may be something to do. False when the object is gone.
    async fn wait(&mut self) -> bool {
        let now = Instant::now();
        // A probe that was not made stays due; what keeps it from being made is looked at again in its own time.
        let probe = if self.probe_due.0 > now { self.probe_due.0 } else { now + PROBE_EVERY };
        let next = if self.object.deleting { probe.min(now + REMOVAL_EVERY) } else { probe };
        let fleet = async {
            match &mut self.watches {
                Some(watches) => watches.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = self.objects.changed() => changed.is_ok(),
            changed = self.leadership.changed() => changed.is_ok(),
            changed = self.suspicion.changed() => changed.is_ok(),
            changed = self.seen.changed() => changed.is_ok(),
            () = fleet => true,
            () = sleep_until(next) => true,
        }
    }

    async fn take_object(&mut self) {
        let object = self.objects.borrow_and_update().clone();
        if self.spec.is_some() && object == self.object {
            return;
        }
        self.object = object;
        self.findings.spec = match self.object.spec.clone() {
            Err(why) => Finding::Bad("BadSpec", why),
            Ok(spec) => {
                if let Some(why) = facts::problem(&spec) {
                    Finding::Bad("BadSpec", why)
                } else {
                    self.take_spec(spec).await;
                    Finding::Good(String::new())
                }
            }
        };
    }

    async fn take_spec(&mut self, spec: Arc<ComputeClusterSpec>) {
        let before = self.spec.replace(spec.clone());
        if before.as_ref().is_some_and(|before| **before == *spec) {
            return;
        }
        self.link.limit(&spec.limits).await;
        self.secret_due = Due::now();
        self.rights_due = Due::now();
        match before {
            // Fixed for as long as the object exists: runs are in it.
            None => self.run_namespace = facts::run_namespace(&spec, &self.context.home_uid),
            Some(before) if before.node_selector != spec.node_selector || before.excluded_taints != spec.excluded_taints => {
                self.drop_watches();
            }
            Some(_) => {}
        }
        self.renew_entry();
    }

    fn leads(&self) -> bool {
        self.permission.granted()
    }

    /// Whether its object waits for us when it is deleted; a standby leaves nothing behind that it would have to wait for.
    fn is_secured(&self) -> bool {
        self.object.is_held() || !self.leads()
    }

    /// Whether it can be worked with at this moment.
    fn is_open(&self) -> bool {
        self.link.is_set() && self.contact.is_reachable() && self.identity.is_good()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.metrics.gone();
    }
}

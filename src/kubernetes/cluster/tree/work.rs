//! The parts of a cluster that run beside its tree: watches into the engine, and the worker of its runs. In: a connection. Out: both, begun anew when they have
//! to be.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::Tree;
use crate::{
    federation::{
        effect::{self, Contact as RunsContact, Policy},
        names,
    },
    kubernetes::{
        cluster::{
            RunCounts, RunsStart,
            directory::ClusterEntry,
            facts::{self, Removal},
            feed::{FEED_MAX, Fleet, pass_on},
            status::Finding,
        },
        runs::Message,
        watch::Watch,
    },
    model::{node::NodeFacts, pod::PodFacts},
};

/// A list that takes longer is worth a word.
const LIST_TAKES: Duration = Duration::from_secs(60);

/// Watches of nodes and pods, and what passes their facts on.
pub(super) struct Watches {
    _tasks: JoinSet<()>,
    fleet: watch::Receiver<Fleet>,
    /// Held so that the receiver never finds it gone.
    _fleet: watch::Sender<Fleet>,
    since: Instant,
}

impl Watches {
    /// The next sum.
    pub(super) async fn changed(&mut self) {
        // Cannot fail, as the sender is held.
        let _ = self.fleet.changed().await;
    }
}

/// The worker of the runs.
pub(super) struct Worker {
    tasks: JoinSet<()>,
    pub(super) entry: Arc<ClusterEntry>,
    pub(super) counts: watch::Receiver<RunCounts>,
    pub(super) policy: Policy,
    pub(super) contact: Option<RunsContact>,
    pub(super) leading: Option<bool>,
    pub(super) suspicion: bool,
}

impl Tree {
    /// Watches begin when the cluster is known and go on while it is lost.
    pub(super) fn keep_watches(&mut self) {
        if self.watches.is_none() && self.is_open() && self.findings.authorized.is_good() {
            self.start_watches();
        }
        let Some(watches) = &mut self.watches else {
            self.findings.synced = Finding::Unknown;
            return;
        };
        let fleet = watches.fleet.borrow_and_update().clone();
        self.findings.synced = if fleet.is_listed {
            // Half a list is no sum: until then the last one is shown.
            self.fleet = fleet;
            Finding::Good(String::new())
        } else if watches.since.elapsed() > LIST_TAKES {
            Finding::Bad("NotListed", "its nodes and pods have not been listed yet; the log says why".to_owned())
        } else {
            Finding::Unknown
        };
    }

    fn start_watches(&mut self) {
        let Some(spec) = self.spec.clone() else { return };
        let (facts, received) = mpsc::channel(FEED_MAX);
        let api = self.link.api().clone();
        let nodes = Watch::<NodeFacts>::new(api.clone(), self.id, &self.name, facts.clone(), self.seed);
        let pods = Watch::<PodFacts>::new(api, self.id, &self.name, facts, self.seed ^ 1);
        let pods = if self.missing.sees_all_pods { pods } else { pods.in_namespace(&self.run_namespace) };
        let (sender, fleet) = watch::channel(Fleet::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(nodes.run());
        tasks.spawn(pods.run());
        tasks.spawn(pass_on(received, self.context.inputs.clone(), spec, sender.clone()));
        self.watches = Some(Watches { _tasks: tasks, fleet, _fleet: sender, since: Instant::now() });
    }

    /// Ends the watches; they are begun anew as soon as they can.
    pub(super) fn drop_watches(&mut self) {
        if self.watches.take().is_some() {
            self.findings.synced = Finding::Unknown;
            self.metrics.watches_restarted();
        }
    }

    /// A worker runs from the moment at which it is known whom it works for, be the cluster reachable or not.
    pub(super) fn keep_worker(&mut self) {
        if let Some(worker) = &mut self.worker
            && worker.tasks.try_join_next().is_some()
        {
            tracing::error!(cluster = &*self.name, "the worker of its runs ended by itself; this is a bug");
            self.metrics.worker_restarted();
            self.worker = None;
        }
        if self.worker.is_none() {
            self.start_worker();
        }
    }

    fn start_worker(&mut self) {
        let (Some(policy), Some(uid), Some(spec)) = (self.policy(), self.uid.clone(), self.spec.clone()) else { return };
        let (runs, inputs) = mpsc::unbounded_channel();
        let (counts_sender, counts) = watch::channel(RunCounts::default());
        let entry = Arc::new(ClusterEntry {
            id: self.id,
            name: self.name.clone(),
            uid,
            home_uid: self.context.home_uid.clone(),
            virtual_node: names::virtual_node(&self.name).into(),
            run_namespace: self.run_namespace.clone(),
            spec,
            api: self.link.api().clone(),
            runs,
        });
        let start = RunsStart { entry: entry.clone(), inputs, policy: policy.clone(), counts: counts_sender };
        let mut tasks = JoinSet::new();
        tasks.spawn((self.context.spawn_runs)(start));
        self.context.directory.enter(entry.clone());
        self.worker = Some(Worker { tasks, entry, counts, policy, contact: None, leading: None, suspicion: false });
    }

    /// The directory's entry after a change of the spec.
    pub(super) fn renew_entry(&mut self) {
        let (Some(worker), Some(spec)) = (&mut self.worker, self.spec.clone()) else { return };
        let old = &worker.entry;
        worker.entry = Arc::new(ClusterEntry {
            id: old.id,
            name: old.name.clone(),
            uid: old.uid.clone(),
            home_uid: old.home_uid.clone(),
            virtual_node: old.virtual_node.clone(),
            run_namespace: old.run_namespace.clone(),
            spec,
            api: old.api.clone(),
            runs: old.runs.clone(),
        });
        self.context.directory.enter(worker.entry.clone());
        // A worker that ended is found by `keep_worker`.
        let _ = worker.entry.runs.send(Message::Entry(worker.entry.clone()));
    }

    pub(super) fn policy(&self) -> Option<Policy> {
        let (spec, uid) = (self.spec.as_ref()?, self.uid.as_ref()?);
        Some(facts::policy(&self.name, uid, &self.context.home_uid, spec, self.removal_kind()))
    }

    /// By force goes what cannot be worked with; what can be, goes in order.
    pub(super) fn removal_kind(&self) -> Removal {
        if !self.object.deleting {
            return Removal::None;
        }
        let forced = self.spec.as_ref().is_some_and(|spec| spec.force) && !self.is_open();
        if forced { Removal::Forced } else { Removal::Orderly }
    }

    /// Tells the worker what is new to it.
    pub(super) fn tell_worker(&mut self) {
        let (policy, leads) = (self.policy(), self.leads());
        let contact = match self.contact.lost_since() {
            Some(since) => Some(RunsContact::Lost(since)),
            None if self.is_open() && self.findings.synced.is_good() => Some(RunsContact::Reachable),
            None => None,
        };
        let suspicion = *self.suspicion.borrow_and_update() || self.unauthorized;
        let Some(worker) = &mut self.worker else { return };
        let runs = &worker.entry.runs;
        // A worker that ended is found by `keep_worker`.
        let tell = |fact: effect::Input| drop(runs.send(fact.into()));
        if let Some(policy) = policy.filter(|policy| *policy != worker.policy) {
            worker.policy = policy.clone();
            tell(effect::Input::Policy(Box::new(policy)));
        }
        if suspicion != worker.suspicion {
            worker.suspicion = suspicion;
            tell(effect::Input::Suspicion(suspicion));
        }
        if let Some(contact) = contact.filter(|contact| worker.contact != Some(*contact)) {
            worker.contact = Some(contact);
            tell(effect::Input::Contact(contact));
        }
        if worker.leading != Some(leads) {
            worker.leading = Some(leads);
            tell(effect::Input::Leading(leads));
        }
    }
}

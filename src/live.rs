//! One live scheduler on one API server: watches, engine, binder, patcher, events and election, wired. `isobar run`, the demo and simulated worlds all
//! start this.
//!
//! ```text
//! watch pods, nodes --Input--> driver + engine --Command--> binder, desk of conditions, desk of events
//! elector --Leading--------------^                            ^ ask before each write: may we?
//! ```
//!
//! With a federation the same, and beside it what [`abroad`] starts.

mod abroad;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::abroad::{Dispatch, Shared};
pub use self::abroad::{FederationOptions, ImageQuestion};
use crate::{
    config::defaults::EVENTS_PER_SECOND,
    driver::{Driver, INPUTS_MAX, Machine, on_own_thread},
    extenders::{ExtenderDesk, Extenders, Surroundings, extender_desk},
    kubernetes::{
        api::Api,
        bind::{BindWork, Binder},
        clock::Clock,
        election::ElectionSettings,
        events::{EventDesk, event_desk},
        evict::{EvictionDesk, eviction_desk},
        leadership::{Leadership, Permission},
        lease::{Elector, Ended},
        patch::{ConditionDesk, Patcher},
        pod_groups::{self, GroupDesk, group_desk},
        watch::{Synced, Watch},
        wire::{NamespaceFacts, ReplicaSet, ReplicationController, SelectingFacts, Service, StatefulSet, Watched},
    },
    model::{
        budget::BudgetFacts,
        devices::DeviceClaimFacts,
        ids::ClusterId,
        node::NodeFacts,
        pod::PodFacts,
        storage::{AttachmentFacts, CapacityFacts, ClaimFacts, ClassFacts, CsiDriverFacts, CsiNodeFacts, VolumeFacts},
    },
    scheduler::{
        input::{Command, Input},
        observe::Gauges,
    },
};

/// Name of the home cluster in metrics and logs.
pub const HOME: &str = "home";
/// How long a shutdown waits for bindings under way: as long as one may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it looks.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
/// How long a shutdown waits for events that wait.
const EVENTS_TIMEOUT: Duration = Duration::from_secs(2);

/// How a live scheduler is run.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// The election to stand in; `None` leads at once and for ever.
    pub election: Option<ElectionSettings>,
    /// How long one binding may take.
    pub bind_timeout: Duration,
    /// Events a second in the long run.
    pub events_per_second: f64,
    /// Part of the reporting instance of events.
    pub hostname: String,
    /// Seed of waits and jitters.
    pub seed: u64,
    /// Webhooks that take part in decisions.
    pub extenders: Extenders,
    /// Whether the engine gets a thread of its own; a simulation under paused time needs it on the runtime.
    pub own_thread: bool,
    /// Whether a profile heeds `PodGroup`s, so that they are watched.
    pub pod_groups: bool,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            election: None,
            bind_timeout: Duration::from_secs(10),
            events_per_second: f64::from(EVENTS_PER_SECOND),
            hostname: "localhost".to_owned(),
            seed: 0,
            extenders: Extenders::default(),
            own_thread: true,
            pod_groups: false,
        }
    }
}

/// A scheduler at work.
pub struct Live {
    /// For further facts: new profiles, answers of plugins.
    pub inputs: mpsc::Sender<Input>,
    /// What the election says.
    pub leadership: watch::Receiver<Leadership>,
    /// Whether all pods were seen once.
    pub pods_synced: Synced,
    /// Whether all nodes were seen once.
    pub nodes_synced: Synced,
    /// Whether what else decisions rest on was seen once: namespaces, Services, controllers, storage.
    pub others_synced: Vec<Synced>,
    /// For news of our own.
    pub events: EventDesk,
    elector: Option<JoinHandle<Ended>>,
    elector_stop: CancellationToken,
    engine_stop: CancellationToken,
    critical: JoinSet<&'static str>,
    watches: JoinSet<()>,
    event_writer: JoinHandle<()>,
    outstanding: Arc<AtomicUsize>,
}

/// Why a live scheduler stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// We led and do not any more.
    LeaseLost,
    /// A part that must run for ever ended: a bug, or a panic in it.
    PartEnded(&'static str),
}

impl Live {
    /// Starts everything. `publish` is told the engine's sizes about once a second. Has to be called inside a tokio runtime.
    pub fn start<M, G>(api: &Api, clock: Clock, machine: M, publish: G, options: &LiveOptions) -> std::io::Result<Self>
    where
        M: Machine + Send + 'static,
        G: FnMut(&Gauges) + Send + 'static,
    {
        Self::start_federated(api, clock, machine, publish, options, None)
    }

    /// The same, with compute clusters if there is a federation.
    pub fn start_federated<M, G>(
        api: &Api,
        clock: Clock,
        machine: M,
        publish: G,
        options: &LiveOptions,
        federation: Option<&FederationOptions>,
    ) -> std::io::Result<Self>
    where
        M: Machine + Send + 'static,
        G: FnMut(&Gauges) + Send + 'static,
    {
        let (inputs, received) = mpsc::channel(INPUTS_MAX);
        let (leadership_sender, leadership) = watch::channel(Leadership::Standby);
        let permission = Permission::new(leadership.clone());
        let mut critical = JoinSet::new();

        let conditions = ConditionDesk::default();
        let patcher = Patcher::new(api, permission.clone(), conditions.clone(), clock);
        critical.spawn(named("patcher", patcher.run()));
        let (events, writer) = event_desk(api.clone(), clock, &options.hostname, options.events_per_second);
        let event_writer = tokio::spawn(writer.run());
        let (evictions, evictor) = eviction_desk(api, permission.clone(), clock, events.clone(), inputs.clone());
        critical.spawn(named("evictor", evictor.run()));
        let groups = start_group_desk(&mut critical, api, permission.clone(), clock);
        let Bindings { orders, outstanding, binder, extenders } =
            start_binding(api, options, &permission, &conditions, &inputs, &mut critical);
        let (abroad, answers) = Dispatch::new(federation, inputs.clone());
        critical.spawn(named("answers", answers));

        let engine_stop = CancellationToken::new();
        let dispatch =
            dispatcher(orders, outstanding.clone(), Desks { conditions, events: events.clone(), evictions, groups, extenders }, abroad);
        let driver = Driver::new(machine, clock, received, dispatch, publish).until(engine_stop.clone());
        if options.own_thread {
            let thread = on_own_thread(driver)?;
            critical.spawn(named("engine", join_thread(thread)));
        } else {
            critical.spawn(named("engine", driver.run()));
        }

        let mut watches = JoinSet::new();
        let others_synced = start_other_watches(&mut watches, api, &inputs, options);
        if let Some(federation) = federation {
            let (home, engine, leadership, events) = (api.clone(), inputs.clone(), leadership.clone(), events.clone());
            let shared = Shared { home, clock, leadership, engine, events, binder, seed: options.seed ^ 5 };
            critical.spawn(named("federation", abroad::supervisor(federation, shared)));
        }
        let pods_synced = start_watch::<PodFacts>(&mut watches, api, &inputs, options.seed);
        let nodes_synced = start_watch::<NodeFacts>(&mut watches, api, &inputs, options.seed ^ 1);

        let elector_stop = CancellationToken::new();
        let elector = Some(start_election(api, clock, leadership_sender, &inputs, options, &elector_stop));
        Ok(Self {
            inputs,
            leadership,
            pods_synced,
            nodes_synced,
            others_synced,
            events,
            elector,
            elector_stop,
            engine_stop,
            critical,
            watches,
            event_writer,
            outstanding,
        })
    }

    /// Waits until something ends that should not.
    pub async fn stopped(&mut self) -> Stopped {
        let elector = async {
            match &mut self.elector {
                Some(elector) => elector.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = elector => {
                self.elector = None;
                if matches!(ended, Ok(Ended::Lost)) { Stopped::LeaseLost } else { Stopped::PartEnded("election") }
            }
            ended = self.critical.join_next() => Stopped::PartEnded(ended.and_then(Result::ok).unwrap_or("a critical task")),
            _ = self.watches.join_next() => Stopped::PartEnded("watch"),
            _ = &mut self.event_writer => Stopped::PartEnded("event writer"),
        }
    }

    /// Ends in good order: no new decisions, bindings under way are finished, events written, the lease given up. Takes some 15 s at most.
    pub async fn shut_down(mut self) {
        // While the engine takes in facts there is room; if it has died there is nothing to finish.
        let _ = self.inputs.send(Input::Leading(false)).await;
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        sleep(DRAIN_LOOK).await;
        while self.outstanding.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            sleep(DRAIN_LOOK).await;
        }
        let left = self.outstanding.load(Ordering::Acquire);
        if left > 0 {
            tracing::warn!(left, "bindings without an outcome are left behind; the next leader finds them on the API server");
        }
        self.watches.shutdown().await;
        self.engine_stop.cancel();
        drop(self.events);
        if timeout(EVENTS_TIMEOUT, &mut self.event_writer).await.is_err() {
            self.event_writer.abort();
        }
        self.elector_stop.cancel();
        if let Some(elector) = self.elector.take() {
            let _ = elector.await;
        }
        self.critical.shutdown().await;
    }

    /// Ends at once, as a crash would: nothing is finished, nothing given up.
    pub fn abort(mut self) {
        self.critical.abort_all();
        self.watches.abort_all();
        self.event_writer.abort();
        self.elector.iter().for_each(JoinHandle::abort);
        self.engine_stop.cancel();
    }
}

/// Watches a kind at home; what comes back says when its first list is in.
fn start_watch<K: Watched<Input = Input>>(watches: &mut JoinSet<()>, api: &Api, inputs: &mpsc::Sender<Input>, seed: u64) -> Synced {
    let watch = Watch::<K>::new(api.clone(), ClusterId::HOME, HOME, inputs.clone(), seed);
    let synced = watch.synced();
    watches.spawn(watch.run());
    synced
}

/// Watches home objects that choose pods by labels, and those of storage. The engine decides nothing before it has their first lists.
fn start_other_watches(watches: &mut JoinSet<()>, api: &Api, inputs: &mpsc::Sender<Input>, options: &LiveOptions) -> Vec<Synced> {
    // The channel is empty still, so that this comes first.
    let _ = inputs.try_send(Input::AwaitLists);
    let seed = options.seed;
    if options.pod_groups {
        watches.spawn(pod_groups::watch(api.clone(), HOME, inputs.clone(), seed ^ 0x11));
    }
    vec![
        start_watch::<NamespaceFacts>(watches, api, inputs, seed ^ 3),
        start_watch::<SelectingFacts<Service>>(watches, api, inputs, seed ^ 6),
        start_watch::<SelectingFacts<ReplicationController>>(watches, api, inputs, seed ^ 7),
        start_watch::<SelectingFacts<ReplicaSet>>(watches, api, inputs, seed ^ 8),
        start_watch::<SelectingFacts<StatefulSet>>(watches, api, inputs, seed ^ 9),
        start_watch::<ClaimFacts>(watches, api, inputs, seed ^ 4),
        start_watch::<VolumeFacts>(watches, api, inputs, seed ^ 0xa),
        start_watch::<ClassFacts>(watches, api, inputs, seed ^ 0xb),
        start_watch::<CsiNodeFacts>(watches, api, inputs, seed ^ 0xc),
        start_watch::<CsiDriverFacts>(watches, api, inputs, seed ^ 0xd),
        start_watch::<CapacityFacts>(watches, api, inputs, seed ^ 0xe),
        start_watch::<AttachmentFacts>(watches, api, inputs, seed ^ 0xf),
        start_watch::<BudgetFacts>(watches, api, inputs, seed ^ 0x10),
        start_watch::<DeviceClaimFacts>(watches, api, inputs, seed ^ 0x11),
    ]
}

fn start_election(
    api: &Api,
    clock: Clock,
    leadership: watch::Sender<Leadership>,
    inputs: &mpsc::Sender<Input>,
    options: &LiveOptions,
    stop: &CancellationToken,
) -> JoinHandle<Ended> {
    if let Some(settings) = &options.election {
        let elector = Elector::new(api.unlimited(), settings.clone(), clock, leadership, inputs.clone(), options.seed ^ 2);
        return tokio::spawn(elector.run(stop.clone()));
    }
    let inputs = inputs.clone();
    let stop = stop.clone();
    tokio::spawn(async move {
        leadership.send_replace(Leadership::Unlimited);
        let _ = inputs.send(Input::Leading(true)).await;
        stop.cancelled().await;
        Ended::Released
    })
}

/// Who binds pods: we, or an extender in our place.
struct Bindings {
    orders: mpsc::UnboundedSender<BindWork>,
    outstanding: Arc<AtomicUsize>,
    binder: Binder,
    extenders: ExtenderDesk,
}

fn start_binding(
    api: &Api,
    options: &LiveOptions,
    permission: &Permission,
    conditions: &ConditionDesk,
    inputs: &mpsc::Sender<Input>,
    critical: &mut JoinSet<&'static str>,
) -> Bindings {
    let ((orders, orders_received), outstanding) = (mpsc::unbounded_channel(), Arc::new(AtomicUsize::new(0)));
    let binder = Binder::new(api.clone(), permission.clone(), conditions.clone());
    let binder = binder.with_timeout(options.bind_timeout).counting(outstanding.clone());
    critical.spawn(named("binder", binder.clone().run(orders_received, inputs.clone())));
    // The channel is empty still, so that this comes first.
    let _ = inputs.try_send(options.extenders.input());
    let surroundings = Surroundings {
        api: api.clone(),
        permission: permission.clone(),
        conditions: conditions.clone(),
        inputs: inputs.clone(),
        orders: orders.clone(),
        outstanding: outstanding.clone(),
    };
    let (extenders, errands) = extender_desk(options.extenders.clone(), surroundings);
    critical.spawn(named("extenders", errands));
    Bindings { orders, outstanding, binder, extenders }
}

/// Starts who writes what the status of `PodGroup`s says.
fn start_group_desk(critical: &mut JoinSet<&'static str>, api: &Api, permission: Permission, clock: Clock) -> GroupDesk {
    let (desk, writer) = group_desk(api, permission, clock);
    critical.spawn(named("writer of group conditions", writer.run()));
    desk
}

/// Who carries out what is no binding by us.
struct Desks {
    conditions: ConditionDesk,
    events: EventDesk,
    evictions: EvictionDesk,
    groups: GroupDesk,
    extenders: ExtenderDesk,
}

/// Where each command goes. Bindings are never dropped: the engine bounds how many there can be.
fn dispatcher(
    orders: mpsc::UnboundedSender<BindWork>,
    outstanding: Arc<AtomicUsize>,
    desks: Desks,
    abroad: Dispatch,
) -> impl FnMut(Command) + Send + 'static {
    let Desks { conditions, events, evictions, groups, extenders } = desks;
    let counted = outstanding.clone();
    let work = move |work| {
        outstanding.fetch_add(1, Ordering::AcqRel);
        // Nobody takes orders only when the process ends.
        let _ = orders.send(work);
    };
    move |command| match command {
        Command::Bind(order) if order.node.cluster != ClusterId::HOME => abroad.place(*order),
        Command::Bind(order) => work(BindWork::Bind(order)),
        Command::PreBind(pod, plugin_work) => work(BindWork::PreBind(pod, plugin_work)),
        Command::AskExtenders(question) => extenders.ask(question),
        Command::BindThrough(extender, order) => {
            counted.fetch_add(1, Ordering::AcqRel);
            extenders.bind(extender, order);
        }
        Command::Condition(order) => {
            if !conditions.put(*order) {
                tracing::debug!("a condition was dropped: too many wait");
            }
        }
        Command::Event(order) => events.put(order),
        Command::Evict(order) => evictions.put(*order),
        Command::GroupCondition(order) => {
            if !groups.put(*order) {
                tracing::debug!("the condition of a PodGroup was dropped: too many wait");
            }
        }
        Command::PlacedAgain(uid, cluster, node) => abroad.placed_again(uid, cluster, node),
        Command::ResolveImages(pod, images) => abroad.resolve(pod, images),
    }
}

async fn named(name: &'static str, part: impl Future<Output = ()>) -> &'static str {
    part.await;
    name
}

/// Ends when the thread does. A thread cannot be awaited, so a helper of the runtime waits for it.
async fn join_thread(thread: std::thread::JoinHandle<()>) {
    let ended = tokio::task::spawn_blocking(move || thread.join()).await;
    if !matches!(ended, Ok(Ok(()))) {
        tracing::error!("the engine's thread panicked; this is a bug");
    }
}

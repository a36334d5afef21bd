//! All compute clusters. In: `ComputeCluster` objects. Out: a tree for each while its object exists, started again if it ever ends by itself.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use super::{
    Connect, SpawnRuns,
    census::Census,
    changes,
    debts::Debts,
    directory::ClusterDirectory,
    object::{self, ClusterObject},
    probe,
    rest::{Rest, RestError},
    tree::{Context, Tree},
    virtual_node::{self, KubeletAddress, VirtualNode},
};
use crate::{
    kubernetes::{
        api::Api,
        backoff::Backoff,
        clock::Clock,
        leadership::{Leadership, Permission},
    },
    metrics::{ClusterMetrics, Metrics},
    model::ids::ClusterId,
    scheduler::input::Input,
};

/// Between two looks for Nodes that stand for nothing, while we lead.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// How soon a look that failed is repeated.
const SWEEP_RETRY: Duration = Duration::from_secs(10);
/// A tree that ended by itself is started again after this.
const TREE_PAUSE: Duration = Duration::from_secs(5);

/// What the federation is made of.
pub struct SuperviseOptions {
    /// The home cluster.
    pub home: Api,
    /// The clock.
    pub clock: Clock,
    /// Whether we lead: a standby reads everything and writes nothing.
    pub leadership: watch::Receiver<Leadership>,
    /// The engine.
    pub inputs: mpsc::Sender<Input>,
    /// Where others find connected clusters.
    pub directory: ClusterDirectory,
    /// Starts the worker of a cluster's runs.
    pub spawn_runs: SpawnRuns,
    /// Makes connections.
    pub connect: Connect,
    /// Where the kubelet endpoint is, once it is known.
    pub kubelet: watch::Receiver<Option<KubeletAddress>>,
    /// Our own namespace at home, for the record of debts.
    pub namespace: String,
    /// Where everything is counted.
    pub metrics: Metrics,
    /// Equal seeds wait equally.
    pub seed: u64,
}

/// Looks after all compute clusters until it is dropped.
pub async fn supervise(options: SuperviseOptions) {
    let permission = Permission::new(options.leadership.clone());
    let home = Rest::new(options.home.clone());
    let home_writes = Rest::new(options.home.while_permitted(permission.clone()));
    let home_uid = home_uid(&options.home, options.seed).await;
    let context = Arc::new(Context {
        debts: Debts::new(home.clone(), home_writes.clone(), &options.namespace),
        api_metrics: options.home.metrics().clone(),
        home: home.clone(),
        home_writes,
        home_uid,
        clock: options.clock,
        leadership: options.leadership,
        inputs: options.inputs,
        directory: options.directory,
        spawn_runs: options.spawn_runs,
        connect: options.connect,
        kubelet: options.kubelet,
        metrics: options.metrics,
        census: Census::default(),
        seed: options.seed,
    });
    let (lists, mut listed) = watch::channel(None);
    let mut parts = JoinSet::new();
    parts.spawn(changes::follow(home, object::COLLECTION.to_owned(), lists, options.seed ^ 3));
    parts.spawn(sweep(context.clone(), permission));
    let mut supervisor = Supervisor { context, clusters: BTreeMap::new(), ids: 0 };
    while listed.changed().await.is_ok() {
        let objects = listed.borrow_and_update().iter().flatten().filter_map(ClusterObject::read).collect();
        supervisor.take(objects).await;
    }
}

/// UID of home's `kube-system`: it is on everything that we make over there. Asked until it is known.
async fn home_uid(home: &Api, seed: u64) -> Box<str> {
    let mut backoff = Backoff::seeded(seed ^ 4);
    loop {
        match probe::identity(home).await {
            Ok(uid) => return uid,
            Err(error) => tracing::warn!("the UID of home's kube-system is not known, trying again: {error}"),
        }
        sleep(backoff.next_wait()).await;
    }
}

struct Supervisor {
    context: Arc<Context>,
    clusters: BTreeMap<Box<str>, Looked>,
    /// Last number given; none is ever given twice.
    ids: u16,
}

/// A cluster that is looked after.
struct Looked {
    id: ClusterId,
    /// UID of the object: another object of the same name is another cluster.
    uid: Box<str>,
    object: watch::Sender<Arc<ClusterObject>>,
    tree: JoinSet<()>,
}

impl Supervisor {
    async fn take(&mut self, mut objects: Vec<ClusterObject>) {
        let gone: Vec<Box<str>> = self
            .clusters
            .iter()
            .filter(|(name, looked)| !objects.iter().any(|object| object.name == **name && object.uid == looked.uid))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.remove(&name).await;
        }
        // Of two objects for one cluster the one that had it keeps it; of two new ones, the older.
        objects.sort_by(|a, b| (&a.created, &a.name).cmp(&(&b.created, &b.name)));
        for uid_and_name in objects.iter().filter_map(|object| Some((object.status.cluster_uid.as_deref()?, &object.name))) {
            let _ = self.context.census.claim(uid_and_name.0, uid_and_name.1);
        }
        for object in objects {
            match self.clusters.get(&object.name) {
                Some(looked) => {
                    looked.object.send_if_modified(|known| {
                        let changed = **known != object;
                        if changed {
                            *known = Arc::new(object.clone());
                        }
                        changed
                    });
                }
                None => self.add(object),
            }
        }
    }

    fn add(&mut self, object: ClusterObject) {
        let Some(number) = self.ids.checked_add(1) else {
            tracing::error!(cluster = &*object.name, "not looked after: 65,535 clusters were added since the start; restart Isobar");
            return;
        };
        self.ids = number;
        let id = ClusterId(number);
        tracing::info!(cluster = &*object.name, id = number, "compute cluster added");
        let (name, uid) = (object.name.clone(), object.uid.clone());
        let sender = watch::Sender::new(Arc::new(object));
        let mut tree = JoinSet::new();
        tree.spawn(keep_tree(self.context.clone(), id, name.clone(), sender.subscribe()));
        self.clusters.insert(name, Looked { id, uid, object: sender, tree });
    }

    async fn remove(&mut self, name: &str) {
        let Some(mut looked) = self.clusters.remove(name) else { return };
        tracing::info!(cluster = name, "compute cluster is gone");
        // The last word about a cluster is that it is gone: its tree is over before that.
        looked.tree.shutdown().await;
        self.context.directory.remove(looked.id);
        self.context.census.forget(looked.id, name);
        let _ = self.context.inputs.send(Input::ClusterGone(looked.id)).await;
    }
}

/// A tree, again if it panics: one cluster's bug is not another's.
async fn keep_tree(context: Arc<Context>, id: ClusterId, name: Box<str>, object: watch::Receiver<Arc<ClusterObject>>) {
    let metrics = ClusterMetrics::new(&context.metrics, &name);
    loop {
        let tree = Tree::new(context.clone(), id, object.clone());
        if AssertUnwindSafe(tree.run()).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(cluster = &*name, "looking after it panicked; this is a bug. Starting again");
        metrics.tree_restarted();
        sleep(TREE_PAUSE).await;
    }
}

/// Deletes virtual Nodes whose object is gone without our having been asked, as when somebody dropped its finalizer by hand.
async fn sweep(context: Arc<Context>, permission: Permission) {
    loop {
        let wait = if permission.granted() {
            match sweep_once(&context).await {
                Ok(()) => SWEEP_EVERY,
                Err(error) => {
                    tracing::warn!("virtual Nodes cannot be looked through: {error}");
                    SWEEP_RETRY
                }
            }
        } else {
            SWEEP_RETRY
        };
        sleep(wait).await;
    }
}

async fn sweep_once(context: &Context) -> Result<(), RestError> {
    // Without the definition every object would look as if it were gone.
    context.home.list(object::COLLECTION, "").await?;
    for cluster in virtual_node::standing(&context.home).await? {
        // Asked live for each: a list may be behind.
        if context.home.get(&object::path(&cluster)).await?.is_none() {
            tracing::warn!(cluster, "its virtual Node is left over and is deleted");
            VirtualNode::new(&cluster, context.home_writes.clone(), context.clock).remove().await?;
        }
    }
    Ok(())
}

//! An in-memory Kubernetes API server. In: HTTP requests. Out: the answers, objects and watch streams that kube-apiserver 1.37 would give
//! for the resources Isobar and kubectl use.
//!
//! A test double and a demo, never a store for real use. `tests/suite/api_script.rs` holds one script of API calls whose transcript (status codes, objects,
//! watch events) has to be the same on this server and on the real one.
//!
//! What is different on purpose, and why nobody minds:
//!
//! | real server | here |
//! |---|---|
//! | fields that a type does not have are dropped, with a warning or (`fieldValidation=Strict`) a 400 | stored as they came |
//! | fields of a wrong JSON type are a 400 for every type | for pods, nodes, leases and events; other types are stored without a look |
//! | quantities are rewritten in their shortest form (`1000m` is `1`) | kept as written |
//! | defaults and validation of every type | of pods, nodes, events, leases, namespaces; `apps` and `batch` are plain storage |
//! | messages about malformed JSON, decoding and changed pod specs carry Go's own wording and diffs | same code and reason, our wording |
//! | apply knows who owns what, refuses conflicts, removes what an applier no longer names | apply creates or merges; no managedFields |
//! | a deleted namespace is emptied by a controller | at once; what runs has its grace and what finalizers hold stays, and so does the namespace |
//! | a controller collects orphans and does foreground deletion | finalizers are set and wait, as without that controller |
//! | budgets are computed by a controller | an eviction reads `status.disruptionsAllowed` if someone wrote it |
//! | requests are authenticated, authorised and limited by fairness queues | everyone may do everything; reviews are answered by [`AccessPolicy`] |
//! | protobuf and CBOR bodies and answers | protobuf bodies of the kinds that kubectl makes itself; answers are JSON |
//! | a list or get of a version to come waits three seconds | it is refused at once |
//! | a watch's past is limited by a cache that adapts | [`ApiServerOptions::history_max`] changes a table |
//! | `OpenAPI` documents with schemas | only what kubectl needs before it writes: `kubectl explain` shows nothing |
//! | `log` asks the kubelet of the pod's node | what the fake kubelet wrote into [`LogBook`] |
//! | `exec`, `attach`, `port-forward`, `proxy`, `scale`, `token` subresources | absent |

mod access;
mod clock;
mod create;
mod defaults;
mod delete;
mod discovery;
mod encode;
mod events;
mod label_keys;
mod logs;
mod openapi;
mod patch;
mod pods;
mod protobuf;
mod qos;
mod read;
mod request;
pub mod resources;
mod routes;
mod selectors;
mod status;
pub mod store;
mod strategic;
mod tables;
mod typed;
mod update;
mod validate;
mod watch;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Duration;

pub use access::{AccessPolicy, AllowAll, Attributes, Identity, Permissions};
pub use clock::SimClock;
pub use logs::LogBook;
pub use status::{ApiError, FieldError};

use clock::Ids;
use resources::{Registry, ResourceType};
use store::{Key, Store};

/// How the server behaves where kube-apiserver has flags or fixed numbers.
#[derive(Clone, Debug)]
pub struct ApiServerOptions {
    /// Seed of uids and generated names.
    pub seed: u64,
    /// The clock's start.
    pub epoch: Timestamp,
    /// Between two bookmarks of a watch that allows them. Upstream: about a minute.
    pub bookmark_interval: Duration,
    /// Least length of a watch without `timeoutSeconds`; the actual one is up to twice that. Upstream: 30 minutes.
    pub watch_timeout_min: Duration,
    /// Changes remembered for each table; a watch from before gets 410.
    pub history_max: usize,
    /// Largest request body. Upstream: 3 MiB.
    pub body_bytes_max: usize,
}

/// What upstream refuses bodies beyond.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Ten thousand pods bound and started are 30,000 changes; a watcher that lags a quarter of that is better off with a new list.
const HISTORY_MAX: usize = 8192;

impl Default for ApiServerOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            epoch: Timestamp::UNIX_EPOCH,
            bookmark_interval: Duration::from_mins(1),
            watch_timeout_min: Duration::from_mins(30),
            history_max: HISTORY_MAX,
            body_bytes_max: BODY_BYTES_MAX,
        }
    }
}

/// The server's state. Cheap to share; [`ApiServer::router`] serves it.
pub struct ApiServer {
    pub(crate) store: Store,
    registry: RwLock<Registry>,
    clock: SimClock,
    ids: Ids,
    options: ApiServerOptions,
    access: Box<dyn AccessPolicy>,
    logs: LogBook,
    /// Cluster IPs given out so far.
    services: std::sync::atomic::AtomicU32,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("options", &self.options).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// A server with the built-in types, the standing namespaces and the system priority classes.
    pub fn new(options: ApiServerOptions, access: Box<dyn AccessPolicy>) -> Arc<Self> {
        let registry = Registry::built_in();
        let store = Store::new(options.history_max);
        store.grow(registry.table_count());
        let server = Arc::new(Self {
            store,
            clock: SimClock::starting_at(options.epoch),
            ids: Ids::new(options.seed),
            registry: RwLock::new(registry),
            options,
            access,
            logs: LogBook::default(),
            services: std::sync::atomic::AtomicU32::new(1),
        });
        server.bootstrap();
        server
    }

    /// The HTTP side.
    pub fn router(self: &Arc<Self>) -> Router {
        routes::router(self.clone())
    }

    /// The cluster's time.
    pub fn clock(&self) -> SimClock {
        self.clock
    }

    /// What containers wrote.
    pub fn logs(&self) -> &LogBook {
        &self.logs
    }

    /// The objects.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Serves one more type, as a `CustomResourceDefinition` would.
    pub fn register(&self, resource: ResourceType) {
        let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        registry.add(resource);
        self.store.grow(registry.table_count());
    }

    /// A served type.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<Arc<ResourceType>> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).find(group, version, plural)
    }

    /// All served types, in the order of discovery.
    pub fn resources(&self) -> Vec<Arc<ResourceType>> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).types().to_vec()
    }

    /// Every object of a type, for audits beside the API.
    pub fn objects(&self, group: &str, plural: &str) -> Vec<Value> {
        self.objects_where(group, plural, &[])
    }

    /// The objects of a type whose selectable fields have these values (`spec.nodeName` of pods and the like), for the world beside the API: only those
    /// are decoded.
    pub fn objects_where(&self, group: &str, plural: &str, fields: &[(&str, &str)]) -> Vec<Value> {
        let matching = |stored: &&Arc<store::Stored>| fields.iter().all(|(label, value)| stored.selectable.field(label) == *value);
        self.stored(group, plural).iter().filter(matching).map(|stored| stored.value()).collect()
    }

    /// The values that a selectable field has.
    pub fn field_values(&self, group: &str, plural: &str, field: &str) -> BTreeSet<String> {
        self.stored(group, plural).iter().map(|stored| stored.selectable.field(field).to_string()).collect()
    }

    fn stored(&self, group: &str, plural: &str) -> Vec<Arc<store::Stored>> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let Some(resource) = registry.types().iter().find(|row| row.group == group && row.plural == plural) else { return Vec::new() };
        self.store.snapshot(resource.table, "", None).map(|snapshot| snapshot.objects).unwrap_or_default()
    }

    /// One object, for audits beside the API.
    pub fn object(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let resource = registry.types().iter().find(|row| row.group == group && row.plural == plural)?;
        self.store.get(resource.table, &Key::new(namespace, name)).map(|stored| stored.value())
    }

    fn bootstrap(&self) {
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
            self.bootstrap_object("", "v1", "namespaces", namespace);
        }
        for (name, value) in [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)] {
            let class = json!({"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": name}, "value": value});
            self.bootstrap_object("scheduling.k8s.io", "v1", "priorityclasses", class);
        }
    }

    fn bootstrap_object(&self, group: &str, version: &str, plural: &str, object: Value) {
        let Some(resource) = self.resource(group, version, plural) else { return };
        let created = self.create_object(&resource, "", object, false);
        debug_assert!(created.is_ok(), "a standing object was refused: {created:?}");
    }
}

/// Which flags of `dryRun` are legal; anything else is refused.
fn is_dry_run(query: &request::Query) -> Result<bool, ApiError> {
    let given: BTreeSet<&str> = query.text("dryRun").split(',').filter(|word| !word.is_empty()).collect();
    match given.iter().next() {
        None => Ok(false),
        Some(&"All") if given.len() == 1 => Ok(true),
        Some(other) => {
            let error = FieldError::not_supported("dryRun", &json!([other]), &["All"]);
            Err(ApiError::invalid("CreateOptions", "meta.k8s.io", "", &[error]))
        }
    }
}

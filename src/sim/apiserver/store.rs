//! The objects themselves. In: transactions that put and remove objects, one at a time under one lock. Out: objects as ready JSON bytes,
//! states of the recent past, and a bounded history of changes that watchers read at their own pace.
//!
//! One counter gives every write its resourceVersion, as etcd's revision does. An object is kept as the bytes that are sent, so a list or a
//! watch copies memory instead of serialising, and 10,000 pods cost some 30 MB with their labels and selectable fields beside them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::resources::TableId;
use super::selectors::Selectable;
use crate::sim::signal::{Listener, Signal};
use bytes::Bytes;
use serde_json::Value;

/// First resourceVersion ever given is one more. Not 0, so that tests have versions that are too old.
pub const FIRST_RESOURCE_VERSION: u64 = 100;

/// `namespace/name`, or `name`; ordered as etcd orders keys, which is the order of lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Key of an object; `namespace` is empty for cluster-scoped ones.
    pub fn new(namespace: &str, name: &str) -> Self {
        if namespace.is_empty() { Self(name.to_string()) } else { Self(format!("{namespace}/{name}")) }
    }

    /// The text, as continue tokens carry it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace, empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(self.0.as_str(), |(_, name)| name)
    }
}

/// One version of an object.
#[derive(Debug)]
pub struct Stored {
    /// `metadata.resourceVersion`.
    pub resource_version: u64,
    /// Where it is stored.
    pub key: Key,
    /// What selectors can ask.
    pub selectable: Selectable,
    json: Bytes,
    /// Length of `{"kind":..,"apiVersion":..,`: built-in types leave both out of list items.
    head_len: usize,
    /// The same object as the other API group shows it (events), made when first asked for.
    pub(crate) other_view: OnceLock<Bytes>,
}

impl Stored {
    fn new(key: Key, resource_version: u64, value: &Value, table: TableId) -> Self {
        let json = Bytes::from(value.to_string());
        let head = format!("{{\"kind\":{},\"apiVersion\":{},", value["kind"], value["apiVersion"]);
        let head_len = if json.starts_with(head.as_bytes()) { head.len() } else { 0 };
        let selectable = Selectable::of(value, table);
        Self { resource_version, key, selectable, json, head_len, other_view: OnceLock::new() }
    }

    /// An object that is answered but not stored.
    pub fn unsaved(key: Key, value: &Value, table: TableId) -> Self {
        let resource_version = value["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
        Self::new(key, resource_version, value, table)
    }

    /// The JSON that clients get.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The JSON behind kind and apiVersion; wants a `{` before it. `None` when they do not lead.
    pub fn json_tail(&self) -> Option<&[u8]> {
        (self.head_len > 0).then(|| &self.json[self.head_len..])
    }

    /// The object, parsed anew.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Created.
    Added,
    /// Written again.
    Modified,
    /// Removed.
    Deleted,
}

/// One entry of the history.
#[derive(Debug)]
pub struct Change {
    /// The resourceVersion of the write.
    pub resource_version: u64,
    /// What happened.
    pub kind: ChangeKind,
    /// The object after the write; for a deletion the last state with the deletion's resourceVersion.
    pub object: Arc<Stored>,
    /// The object before the write.
    pub previous: Option<Arc<Stored>>,
    /// The previous object with this write's resourceVersion: what a watcher gets whose selector the object left.
    left: OnceLock<Arc<Stored>>,
    table: TableId,
}

impl Change {
    /// What a watcher is told whose selector matched `previous` and does not match `object`.
    pub fn object_that_left(&self) -> Arc<Stored> {
        let make = || match &self.previous {
            Some(previous) => Arc::new(with_version(previous, self.resource_version, self.table)),
            None => self.object.clone(),
        };
        self.left.get_or_init(make).clone()
    }
}

fn with_version(stored: &Stored, resource_version: u64, table: TableId) -> Stored {
    let mut value = stored.value();
    value["metadata"]["resourceVersion"] = resource_version.to_string().into();
    Stored::new(stored.key.clone(), resource_version, &value, table)
}

#[derive(Debug)]
struct Table {
    objects: BTreeMap<Key, Arc<Stored>>,
    history: VecDeque<Arc<Change>>,
    /// Changes up to here are forgotten.
    compacted: u64,
    /// Wakes watchers.
    signal: Signal,
}

#[derive(Debug)]
struct Inner {
    resource_version: u64,
    tables: Vec<Table>,
    history_max: usize,
}

/// All tables behind one lock.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
}

/// A set of objects at one resourceVersion.
#[derive(Debug)]
pub struct Snapshot {
    /// The state's resourceVersion.
    pub resource_version: u64,
    /// In key order.
    pub objects: Vec<Arc<Stored>>,
}

/// Why a past state or a piece of history cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryError {
    /// Forgotten; history starts behind `oldest`.
    TooOld {
        /// The last forgotten resourceVersion.
        oldest: u64,
    },
    /// Not yet written.
    TooNew {
        /// The newest resourceVersion.
        current: u64,
    },
}

impl Store {
    /// An empty store that remembers `history_max` changes a table.
    pub fn new(history_max: usize) -> Self {
        let inner = Inner { resource_version: FIRST_RESOURCE_VERSION, tables: Vec::new(), history_max: history_max.max(1) };
        Self { inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for `count` tables.
    pub fn grow(&self, count: usize) {
        let mut inner = self.lock();
        let compacted = inner.resource_version;
        while inner.tables.len() < count {
            inner.tables.push(Table { objects: BTreeMap::new(), history: VecDeque::new(), compacted, signal: Signal::default() });
        }
    }

    /// Runs `body` with the store to itself. Writes are kept even when `body` then refuses, so it must check first and write last.
    pub fn transaction<T>(&self, body: impl FnOnce(&mut Transaction<'_>) -> T) -> T {
        let mut inner = self.lock();
        body(&mut Transaction { inner: &mut inner })
    }

    /// One object.
    pub fn get(&self, table: TableId, key: &Key) -> Option<Arc<Stored>> {
        self.lock().tables.get(table.0)?.objects.get(key).cloned()
    }

    /// The newest resourceVersion.
    pub fn resource_version(&self) -> u64 {
        self.lock().resource_version
    }

    /// The objects of a namespace (all of them for `""`) at `at`, or now.
    pub fn snapshot(&self, table: TableId, namespace: &str, at: Option<u64>) -> Result<Snapshot, HistoryError> {
        let inner = self.lock();
        let resource_version = at.unwrap_or(inner.resource_version);
        if resource_version > inner.resource_version {
            return Err(HistoryError::TooNew { current: inner.resource_version });
        }
        let Some(table) = inner.tables.get(table.0) else { return Ok(Snapshot { resource_version, objects: Vec::new() }) };
        if resource_version < table.compacted {
            return Err(HistoryError::TooOld { oldest: table.compacted });
        }
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let objects = match table.changed_since(resource_version) {
            changed if changed.is_empty() => table.in_prefix(&prefix).map(|(_, stored)| stored.clone()).collect(),
            changed => table.rewound(&prefix, changed),
        };
        Ok(Snapshot { resource_version, objects })
    }

    /// Up to `max` changes behind `after`, and the resourceVersion up to which the caller then knows everything.
    pub fn changes(&self, table: TableId, after: u64, max: usize) -> Result<(Vec<Arc<Change>>, u64), HistoryError> {
        let inner = self.lock();
        let Some(table) = inner.tables.get(table.0) else { return Ok((Vec::new(), inner.resource_version)) };
        if after < table.compacted {
            return Err(HistoryError::TooOld { oldest: table.compacted });
        }
        let start = table.history.partition_point(|change| change.resource_version <= after);
        let changes: Vec<_> = table.history.iter().skip(start).take(max).cloned().collect();
        let known = changes.last().map_or(after, |change| change.resource_version);
        Ok((changes, known.max(after)))
    }

    /// Wakes at every change of a table.
    pub(crate) fn subscribe(&self, table: TableId) -> Option<Listener> {
        self.lock().tables.get(table.0).map(|table| table.signal.listen())
    }

    /// Forgets all history, as etcd's compaction does: older watches and continue tokens get 410.
    pub fn compact(&self) {
        let mut inner = self.lock();
        let newest = inner.resource_version;
        for table in &mut inner.tables {
            table.history.clear();
            table.compacted = newest;
        }
    }
}

impl Table {
    fn in_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a Key, &'a Arc<Stored>)> {
        self.objects.range(Key(prefix.to_string())..).take_while(move |(key, _)| key.0.starts_with(prefix))
    }

    /// What each key that changed after `resource_version` held at it.
    fn changed_since(&self, resource_version: u64) -> BTreeMap<Key, Option<Arc<Stored>>> {
        let start = self.history.partition_point(|change| change.resource_version <= resource_version);
        let mut held = BTreeMap::new();
        for change in self.history.iter().skip(start) {
            held.entry(change.object.key.clone()).or_insert_with(|| change.previous.clone());
        }
        held
    }

    fn rewound(&self, prefix: &str, changed: BTreeMap<Key, Option<Arc<Stored>>>) -> Vec<Arc<Stored>> {
        let mut state: BTreeMap<Key, Arc<Stored>> = self.in_prefix(prefix).map(|(key, stored)| (key.clone(), stored.clone())).collect();
        for (key, held) in changed.into_iter().filter(|(key, _)| key.0.starts_with(prefix)) {
            match held {
                Some(stored) => state.insert(key, stored),
                None => state.remove(&key),
            };
        }
        state.into_values().collect()
    }

    fn remember(&mut self, change: Change, history_max: usize) {
        while self.history.len() >= history_max {
            if let Some(oldest) = self.history.pop_front() {
                self.compacted = oldest.resource_version;
            }
        }
        self.history.push_back(Arc::new(change));
        self.signal.raise();
    }
}

/// The store, held for one decision and its writes.
pub struct Transaction<'a> {
    inner: &'a mut Inner,
}

impl Transaction<'_> {
    /// One object.
    pub fn get(&self, table: TableId, key: &Key) -> Option<&Arc<Stored>> {
        self.inner.tables.get(table.0)?.objects.get(key)
    }

    /// All objects of a table.
    pub fn all(&self, table: TableId) -> impl Iterator<Item = &Arc<Stored>> {
        self.inner.tables.get(table.0).into_iter().flat_map(|table| table.objects.values())
    }

    /// The objects of one namespace.
    pub fn in_namespace(&self, table: TableId, namespace: &str) -> Vec<Arc<Stored>> {
        let prefix = format!("{namespace}/");
        let table = self.inner.tables.get(table.0);
        table.map(|table| table.in_prefix(&prefix).map(|(_, stored)| stored.clone()).collect()).unwrap_or_default()
    }

    /// How many tables there are.
    pub fn table_ids(&self) -> impl Iterator<Item = TableId> + use<> {
        (0..self.inner.tables.len()).map(TableId)
    }

    /// Writes an object under the next resourceVersion.
    pub fn put(&mut self, table: TableId, key: Key, mut value: Value) -> Arc<Stored> {
        self.inner.resource_version += 1;
        let resource_version = self.inner.resource_version;
        value["metadata"]["resourceVersion"] = resource_version.to_string().into();
        let stored = Arc::new(Stored::new(key.clone(), resource_version, &value, table));
        let history_max = self.inner.history_max;
        let Some(rows) = self.inner.tables.get_mut(table.0) else { return stored };
        let previous = rows.objects.insert(key, stored.clone());
        let kind = if previous.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        rows.remember(Change { resource_version, kind, object: stored.clone(), previous, left: OnceLock::new(), table }, history_max);
        stored
    }

    /// Removes an object; gives its last state with the deletion's resourceVersion.
    pub fn remove(&mut self, table: TableId, key: &Key) -> Option<Arc<Stored>> {
        let history_max = self.inner.history_max;
        let rows = self.inner.tables.get_mut(table.0)?;
        let previous = rows.objects.remove(key)?;
        self.inner.resource_version += 1;
        let resource_version = self.inner.resource_version;
        let object = Arc::new(with_version(&previous, resource_version, table));
        let kind = ChangeKind::Deleted;
        let change = Change { resource_version, kind, object: object.clone(), previous: Some(previous), left: OnceLock::new(), table };
        rows.remember(change, history_max);
        Some(object)
    }
}

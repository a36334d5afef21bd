//! Clusters that were removed by force while they did not answer, and still hold runs of ours. In: UIDs of clusters. Out: a `ConfigMap` in our own namespace,
//! one key a cluster, which survives the object and every restart; a cluster that comes back is wiped before it is used.

use serde_json::{Value, json};

use super::rest::{Rest, RestError};

/// Name of the `ConfigMap`.
pub const NAME: &str = "isobar-cluster-debts";

/// The record of debts.
#[derive(Clone)]
pub struct Debts {
    home: Rest,
    /// Asks for permission first.
    writes: Rest,
    collection: String,
}

impl Debts {
    /// In a namespace of home.
    pub fn new(home: Rest, writes: Rest, namespace: &str) -> Self {
        Self { home, writes, collection: format!("/api/v1/namespaces/{namespace}/configmaps") }
    }

    /// Whether a cluster owes something.
    pub async fn has(&self, cluster_uid: &str) -> Result<bool, RestError> {
        let found = self.home.get(&self.path()).await?;
        Ok(found.is_some_and(|map| map["data"][cluster_uid].is_string()))
    }

    /// Notes a cluster: its name, its run namespace, how many runs it had.
    pub async fn note(&self, cluster_uid: &str, cluster: &str, run_namespace: &str, runs: u32, since: &str) -> Result<(), RestError> {
        let entry = json!({"cluster": cluster, "runNamespace": run_namespace, "runs": runs, "since": since}).to_string();
        let data = json!({ cluster_uid: entry });
        if self.writes.merge(&self.path(), &json!({"data": data})).await?.is_some() {
            return Ok(());
        }
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": data});
        if self.writes.create(&self.collection, &map).await?.is_none() {
            self.writes.merge(&self.path(), &json!({"data": data})).await?;
        }
        Ok(())
    }

    /// It is paid.
    pub async fn clear(&self, cluster_uid: &str) -> Result<(), RestError> {
        self.writes.merge(&self.path(), &json!({"data": {cluster_uid: Value::Null}})).await?;
        Ok(())
    }

    fn path(&self) -> String {
        format!("{}/{NAME}", self.collection)
    }
}

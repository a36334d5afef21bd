//! Leaves nothing behind. In: a run that is not needed any more. Out: no bundle, no finalizer, no event, no run; seen, not assumed.

use http::StatusCode;
use serde_json::Value;

use super::{Executor, collection, run_path};
use crate::{
    federation::{
        effect::{Order, Outcome},
        facts::RunName,
        names,
    },
    kubernetes::runs::port::{Deletion, Port, Select, Trouble, text},
    model::ids::PodUid,
};

impl Executor {
    pub(super) async fn reap(&self, order: &Order, run: &RunName, uid: &str) -> Result<Outcome, Trouble> {
        self.delete_bundles(&order.uid, run).await?;
        if self.own_run(run, uid).await?.is_some() {
            // Deleted first: a pod without the finalizer that is not being deleted would run on if the next call were lost.
            match self.remote.delete(run_path(run), Deletion { uid: Some(uid), ..Deletion::default() }).await {
                Err(trouble) if !trouble.is(StatusCode::NOT_FOUND) && !trouble.is(StatusCode::CONFLICT) => return Err(trouble),
                _ => self.let_go(run, uid).await?,
            }
        }
        self.delete_events(run, uid).await?;
        let left = self.left_over(order, run).await?;
        if left.is_empty() {
            self.metrics.reaped();
            return Ok(Outcome::Done);
        }
        Ok(Outcome::Retry(format!("still over there: {}", left.join(", "))))
    }

    async fn bundles(&self, home: &PodUid, run: &RunName) -> Result<Vec<Value>, Trouble> {
        let secrets = self.remote.list(&collection(&run.namespace, "secrets"), Select::Label(names::RUN_HOME_UID, &home.0)).await?;
        Ok(secrets.into_iter().filter(|secret| self.is_ours(secret) && is_of(&run.name, secret)).collect())
    }

    /// Whether there are bundles of a run.
    pub(super) async fn has_bundles(&self, home: &PodUid, run: &RunName) -> Result<bool, Trouble> {
        Ok(!self.bundles(home, run).await?.is_empty())
    }

    /// Deletes the bundles of a run.
    pub(super) async fn delete_bundles(&self, home: &PodUid, run: &RunName) -> Result<(), Trouble> {
        for secret in &self.bundles(home, run).await? {
            delete_bundle(&self.remote, &run.namespace, secret).await?;
        }
        Ok(())
    }

    /// Events live for an hour and name images and commands; not every cluster lets us delete them.
    async fn delete_events(&self, run: &RunName, uid: &str) -> Result<(), Trouble> {
        let path = collection(&run.namespace, "events");
        let deleted = async {
            for event in self.remote.list(&path, Select::Field("involvedObject.uid", uid)).await? {
                self.remote.delete(format!("{path}/{}", text(&event, "/metadata/name")), Deletion::default()).await?;
            }
            Ok(())
        };
        match deleted.await {
            Err(Trouble::Refused(status, why)) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                tracing::debug!(run = &*run.name, "events of it are left to expire: {why}");
                Ok(())
            }
            other => other,
        }
    }

    /// What of this run is there after all, by a fresh list.
    async fn left_over(&self, order: &Order, run: &RunName) -> Result<Vec<String>, Trouble> {
        let mut left = Vec::new();
        for resource in ["pods", "secrets"] {
            let objects = self.remote.list(&collection(&run.namespace, resource), Select::Label(names::RUN_HOME_UID, &order.uid.0)).await?;
            left.extend(
                objects
                    .iter()
                    .filter(|object| is_of(&run.name, object))
                    .map(|object| format!("{resource} {}", text(object, "/metadata/name"))),
            );
        }
        Ok(left)
    }
}

/// Deletes this very bundle, unless it is gone.
pub(in crate::kubernetes::runs) async fn delete_bundle(remote: &Port, namespace: &str, secret: &Value) -> Result<(), Trouble> {
    let path = format!("{}/{}", collection(namespace, "secrets"), text(secret, "/metadata/name"));
    match remote.delete(path, Deletion { uid: Some(text(secret, "/metadata/uid")), ..Deletion::default() }).await {
        Err(trouble) if !trouble.is(StatusCode::NOT_FOUND) && !trouble.is(StatusCode::CONFLICT) => Err(trouble),
        _ => Ok(()),
    }
}

/// Whether an object is a run or one of its bundles, which are named after it.
pub(in crate::kubernetes::runs) fn is_of(run: &str, object: &Value) -> bool {
    let rest = text(object, "/metadata/name").strip_prefix(run);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

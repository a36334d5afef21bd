//! Effects on a run that exists: look at it, carry changes of its home pod over, delete it.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Executor, run_path};
use crate::{
    federation::{
        effect::{Order, Outcome},
        facts::{RunName, RunPod},
        names, propagate,
    },
    kubernetes::{
        api::{MERGE, STRATEGIC_MERGE},
        runs::port::{Deletion, Trouble, label, text},
    },
};

impl Executor {
    /// A pod with a run's name, whosever it is.
    pub(super) async fn live_run(&self, run: &RunName) -> Result<Option<Value>, Trouble> {
        self.remote.get(run_path(run)).await
    }

    /// The same, if this is the incarnation that is meant and ours.
    pub(super) async fn own_run(&self, run: &RunName, uid: &str) -> Result<Option<Value>, Trouble> {
        Ok(self.live_run(run).await?.filter(|pod| text(pod, "/metadata/uid") == uid && self.is_ours(pod)))
    }

    /// Whether an object over there belongs to this home cluster.
    pub(super) fn is_ours(&self, object: &Value) -> bool {
        label(object, names::RUN_HOME_CLUSTER) == &*self.entry.home_uid
    }

    /// With a run that is gone for good its bundle goes too: not every cluster's garbage collector is quick, or there.
    pub(super) async fn check_run(&self, order: &Order, run: &RunName) -> Result<Outcome, Trouble> {
        if let Some(pod) = self.live_run(run).await?.filter(|pod| self.is_ours(pod)) {
            return Ok(seen(pod));
        }
        if self.has_bundles(&order.uid, run).await? {
            let home = self.live_home(order).await?;
            if home.is_none_or(|home| home.pointer("/metadata/deletionTimestamp").is_some()) {
                self.delete_bundles(&order.uid, run).await?;
            }
        }
        Ok(Outcome::Absent)
    }

    pub(super) async fn propagate(&self, order: &Order, run: &RunName) -> Result<Outcome, Trouble> {
        let Some(home) = self.live_home(order).await? else { return Ok(Outcome::Gone) };
        let Some(pod) = self.live_run(run).await?.filter(|pod| self.is_ours(pod)) else {
            return Ok(Outcome::Retry("the run is gone".to_owned()));
        };
        for (subresource, patch) in propagate::patches(&home, &pod, &self.entry.spec) {
            let slash = if subresource.is_empty() { "" } else { "/" };
            let path = format!("{}{slash}{subresource}", run_path(run));
            if let Err(trouble) = self.remote.patch(path, STRATEGIC_MERGE, &patch).await {
                return Ok(trouble.verdict());
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) async fn delete_run(
        &self,
        order: &Order,
        run: &RunName,
        uid: &str,
        resource_version: Option<&str>,
        grace_seconds: Option<u64>,
        release: bool,
    ) -> Result<Outcome, Trouble> {
        let deletion = Deletion { uid: Some(uid), resource_version, grace_seconds };
        let absent = match self.remote.delete(run_path(run), deletion).await {
            Ok(()) => false,
            Err(trouble) if trouble.is(StatusCode::NOT_FOUND) => true,
            Err(trouble) if trouble.is(StatusCode::CONFLICT) => match self.own_run(run, uid).await? {
                Some(_) => return Ok(Outcome::Conflict),
                None => true,
            },
            Err(trouble) => return Err(trouble),
        };
        if release {
            // After the deletion, whose version would not fit any more; the finalizer holds the object until here.
            self.let_go(run, uid).await?;
            self.delete_bundles(&order.uid, run).await?;
        }
        Ok(if absent { Outcome::Absent } else { Outcome::Done })
    }

    /// Drops our finalizer from a run. Done as well when there is none, or no run.
    pub(super) async fn let_go(&self, run: &RunName, uid: &str) -> Result<(), Trouble> {
        let Some(pod) = self.own_run(run, uid).await? else { return Ok(()) };
        let finalizers = pod.pointer("/metadata/finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
        let kept: Vec<Value> = finalizers.iter().filter(|name| *name != names::RUN_FINALIZER).cloned().collect();
        if kept.len() == finalizers.len() {
            return Ok(());
        }
        let version = text(&pod, "/metadata/resourceVersion");
        let patch = json!({"metadata": {"uid": uid, "resourceVersion": version, "finalizers": kept}});
        match self.remote.patch(run_path(run), MERGE, &patch).await {
            Err(trouble) if trouble.is(StatusCode::NOT_FOUND) => Ok(()),
            other => other,
        }
    }
}

/// A run as it was read.
pub(super) fn seen(pod: Value) -> Outcome {
    RunPod::read(pod).map_or_else(|bad| Outcome::Retry(bad.to_string()), |run| Outcome::Run(Box::new(run)))
}

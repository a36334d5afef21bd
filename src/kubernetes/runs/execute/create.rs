//! Creates a run. In: the decision, the home pod and what it references as they are at this moment. Out: the run, new or adopted; or why there is none.
//!
//! The name is made of pod and attempt, so a second creation, by whomever and however late, meets the first. Bundles come before the run, so that no container
//! waits for its configuration; afterwards they are made the run's own, so that the cluster collects them with it even without us.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Executor, collection, remote::seen};
use crate::{
    federation::{
        effect::{Order, Outcome},
        facts::{Decision, HomePod, RunName},
        names,
        project::{self, Projection},
    },
    kubernetes::{
        api::MERGE,
        runs::port::{Port, Trouble, label, text},
    },
    metrics::RunCreation,
    model::ids::PodUid,
};

impl Executor {
    pub(super) async fn create_run(&self, order: &Order, decision: &Decision) -> Result<Outcome, Trouble> {
        let Some(pod) = self.live_home(order).await? else { return Ok(Outcome::Gone) };
        let home = match HomePod::read(&pod, &self.entry.virtual_node) {
            Ok(home) => home,
            Err(bad) => return Ok(Outcome::Retry(bad.to_string())),
        };
        if home.deletion.is_some() {
            return Ok(Outcome::Gone);
        }
        if !home.may_create(decision) {
            return Ok(Outcome::Conflict);
        }
        let objects = match self.referenced(&pod).await? {
            Ok(objects) => objects,
            Err(missing) => return Ok(Outcome::Retry(missing)),
        };
        let projection = match project::project(&pod, &objects, &self.target(decision)) {
            Ok(projection) => projection,
            Err(obstacle) if obstacle.is_missing() => return Ok(Outcome::Retry(obstacle.to_string())),
            Err(obstacle) => return Ok(self.refused(obstacle.to_string())),
        };
        let outcome = self.create(order, decision, &projection).await;
        Ok(outcome.unwrap_or_else(|trouble| match trouble.verdict() {
            Outcome::Refused(why) => self.refused(why),
            other => other,
        }))
    }

    fn refused(&self, why: String) -> Outcome {
        self.metrics.creation(RunCreation::Refused);
        Outcome::Refused(why)
    }

    async fn create(&self, order: &Order, decision: &Decision, projection: &Projection) -> Result<Outcome, Trouble> {
        let run = &decision.run;
        for bundle in &projection.bundles {
            if !self.create_bundle(order, run, bundle).await? {
                self.metrics.creation(RunCreation::NameTaken);
                return Ok(Outcome::NameTaken);
            }
        }
        let created = match self.remote.create(collection(&run.namespace, "pods"), &projection.run).await {
            Ok(pod) => Some((pod, RunCreation::Created)),
            // It may have been done all the same, by this call or by an earlier one: the object says.
            Err(trouble @ (Trouble::Unclear(_) | Trouble::Refused(StatusCode::CONFLICT, _))) => {
                let Some(pod) = self.live_run(run).await? else { return Err(trouble) };
                let is_this = self.is_this_run(&pod, &order.uid, decision);
                if is_this && matches!(trouble, Trouble::Unclear(_)) {
                    // By an earlier call, perhaps, and this one still comes: told as unclear, it keeps the run from being deleted before that.
                    return Err(trouble);
                }
                is_this.then_some((pod, RunCreation::Adopted))
            }
            Err(trouble) if trouble.is(StatusCode::INTERNAL_SERVER_ERROR) || trouble.is(StatusCode::GATEWAY_TIMEOUT) => {
                let found = self.live_run(run).await?.filter(|pod| self.is_this_run(pod, &order.uid, decision));
                Some((found.ok_or(trouble)?, RunCreation::Adopted))
            }
            Err(trouble) => return Err(trouble),
        };
        let Some((pod, creation)) = created else {
            self.metrics.creation(RunCreation::NameTaken);
            return Ok(Outcome::NameTaken);
        };
        self.metrics.creation(creation);
        if !projection.bundles.is_empty() {
            let names = projection.bundles.iter().map(|bundle| text(bundle, "/metadata/name").to_owned()).collect();
            tokio::spawn(own(self.remote.clone(), run.clone(), text(&pod, "/metadata/uid").to_owned(), names));
        }
        Ok(seen(pod))
    }

    /// True when the bundle is there and ours, new or from an earlier try. It is immutable: what an earlier try took along stays.
    async fn create_bundle(&self, order: &Order, run: &RunName, bundle: &Value) -> Result<bool, Trouble> {
        let path = collection(&run.namespace, "secrets");
        let trouble = match self.remote.post(path.clone(), bundle).await {
            Ok(()) => return Ok(true),
            Err(trouble @ (Trouble::Unclear(_) | Trouble::Refused(StatusCode::CONFLICT, _))) => trouble,
            Err(trouble) => return Err(trouble),
        };
        match self.remote.get(format!("{path}/{}", text(bundle, "/metadata/name"))).await? {
            Some(secret) => Ok(self.is_ours(&secret) && label(&secret, names::RUN_HOME_UID) == &*order.uid.0),
            None => Err(trouble),
        }
    }

    fn is_this_run(&self, pod: &Value, home: &PodUid, decision: &Decision) -> bool {
        self.is_ours(pod) && label(pod, names::RUN_HOME_UID) == &*home.0 && label(pod, names::ATTEMPT) == decision.attempt.to_string()
    }
}

/// Makes the bundles the run's own. Nobody waits for it: whoever reaps the run deletes them as well.
async fn own(remote: Port, run: RunName, uid: String, bundles: Vec<String>) {
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": &*run.name, "uid": uid});
    let patch = json!({"metadata": {"ownerReferences": [owner]}});
    for bundle in bundles {
        let path = format!("{}/{bundle}", collection(&run.namespace, "secrets"));
        if let Err(trouble) = remote.patch(path, MERGE, &patch).await {
            tracing::debug!(run = &*run.name, bundle, "the bundle is not the run's own: {trouble}");
        }
    }
}

//! Effects on the home pod. Each is one compare-and-swap: the UID is in every write, so another incarnation of the name is never touched.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Executor;
use crate::{
    federation::{
        LOST_TAINTS,
        effect::{Order, Outcome},
        facts::{Decision, HomePod},
        names,
        spec::Commit,
        tolerates,
    },
    kubernetes::{
        api::{MERGE, STRATEGIC_MERGE},
        bind::{Binding, pod_path},
        runs::{
            port::{Deletion, Trouble, annotation, text},
            record,
        },
    },
    model::placement::is_virtual_node,
    scheduler::input::BindFailure,
};

/// How often a compare-and-swap is tried when others write the pod at the same time.
const SWAPS_MAX: u32 = 3;

impl Executor {
    /// The home pod as it is now, unless it is gone.
    pub(super) async fn live_home(&self, order: &Order) -> Result<Option<Value>, Trouble> {
        let pod = self.home.get(pod_path(&order.home)).await?;
        Ok(pod.filter(|pod| text(pod, "/metadata/uid") == &*order.uid.0))
    }

    pub(super) async fn check_home(&self, order: &Order) -> Result<Outcome, Trouble> {
        let Some(pod) = self.live_home(order).await? else { return Ok(Outcome::Absent) };
        Ok(HomePod::read(&pod, &self.entry.virtual_node)
            .map_or_else(|bad| Outcome::Retry(bad.to_string()), |home| Outcome::Home(Box::new(home))))
    }

    pub(super) async fn intend(&self, order: &Order, decision: &Decision) -> Result<Outcome, Trouble> {
        let mut annotations = record::annotations(decision);
        annotations.insert(names::INTENT, "true".to_owned());
        let mut conflict = None;
        for _ in 0..SWAPS_MAX {
            let Some(pod) = self.live_home(order).await?.filter(|pod| !is_deleting(pod)) else { return Ok(Outcome::Gone) };
            match text(&pod, "/spec/nodeName") {
                "" => {}
                node if *node == *self.entry.virtual_node && records(&pod, decision) => return Ok(Outcome::Done),
                _ => return Ok(Outcome::BoundElsewhere),
            }
            if !annotation(&pod, names::INTENT).is_empty() && records(&pod, decision) {
                return Ok(Outcome::Done);
            }
            match self.swap(order, text(&pod, "/metadata/resourceVersion"), json!(annotations)).await {
                Err(trouble) if trouble.is(StatusCode::CONFLICT) => conflict = Some(trouble),
                other => return other,
            }
        }
        conflict.map_or(Ok(Outcome::Done), Err)
    }

    pub(super) async fn withdraw(&self, order: &Order) -> Result<Outcome, Trouble> {
        let mut conflict = None;
        for _ in 0..SWAPS_MAX {
            let Some(pod) = self.live_home(order).await? else { return Ok(Outcome::Gone) };
            // A binding is no intent: what it records is not taken back. One to a node of home, which came from an earlier leader, records nothing.
            if is_virtual_node(text(&pod, "/spec/nodeName"), annotation(&pod, names::CLUSTER)) {
                return Ok(Outcome::Done);
            }
            let none: Map<String, Value> = record::TAKEN_BACK.iter().map(|key| ((*key).to_owned(), Value::Null)).collect();
            match self.swap(order, text(&pod, "/metadata/resourceVersion"), none.into()).await {
                Err(trouble) if trouble.is(StatusCode::CONFLICT) => conflict = Some(trouble),
                other => return other,
            }
        }
        conflict.map_or(Ok(Outcome::Done), Err)
    }

    pub(super) async fn bind(&self, order: &Order, decision: &Decision) -> Result<Outcome, Trouble> {
        let mut annotations = record::annotations(decision);
        if self.entry.spec.commit_order() == Commit::CreateFirst {
            // A binding merges annotations and cannot remove one.
            annotations.insert(names::INTENT, String::new());
        }
        // From the binding on home's own controllers would count: with nobody leading for 300 s they would evict it.
        if let Some(pod) = self.live_home(order).await?.filter(|pod| text(pod, "/spec/nodeName").is_empty()) {
            let patient = self.make_patient(order, &pod).await?;
            // What is refused, or met another write, is tried again after the binding.
            if !matches!(patient, Outcome::Done | Outcome::Refused(_) | Outcome::Conflict) {
                return Ok(patient);
            }
        }
        let binding = Binding { pod: &order.home, uid: &order.uid, node: &self.entry.virtual_node, annotations: &annotations };
        Ok(match self.binder.bind(&binding).await {
            Ok(()) => Outcome::Done,
            Err(BindFailure::PodGone) => Outcome::Gone,
            Err(BindFailure::BoundElsewhere) => Outcome::BoundElsewhere,
            Err(BindFailure::NotSent) => Outcome::NotSent,
            Err(BindFailure::Failed(why) | BindFailure::Unclear(why)) => Outcome::Retry(why),
        })
    }

    pub(super) async fn count_attempt(&self, order: &Order, version: &str, decision: &Decision) -> Result<Outcome, Trouble> {
        match self.swap(order, version, json!(record::annotations(decision))).await {
            Err(trouble) if trouble.is_other() => Ok(Outcome::Conflict),
            other => other,
        }
    }

    /// Writes annotations if the pod is still of this version.
    async fn swap(&self, order: &Order, version: &str, annotations: Value) -> Result<Outcome, Trouble> {
        let metadata = json!({"uid": &*order.uid.0, "resourceVersion": version, "annotations": annotations});
        gone_or_done(self.home.patch(pod_path(&order.home), MERGE, &json!({"metadata": metadata})).await)
    }

    pub(super) async fn mirror(&self, order: &Order, patch: &Value) -> Result<Outcome, Trouble> {
        let mut patch = patch.clone();
        // Beside the version that the machine judged by: what it did not know of may have changed the verdict.
        patch["metadata"]["uid"] = json!(&*order.uid.0);
        let path = format!("{}/status", pod_path(&order.home));
        let patched = self.home.patch(path, STRATEGIC_MERGE, &patch).await;
        if patched.is_ok() {
            self.metrics.mirrored();
        }
        match self.unless_other(order, patched).await {
            Err(trouble) if trouble.is(StatusCode::CONFLICT) => Ok(Outcome::Conflict),
            Err(trouble) => Ok(trouble.verdict()),
            outcome => outcome,
        }
    }

    /// The home pod bears these taints for ever: the API lets tolerations be added, and their time be changed, whoever wrote them.
    pub(super) async fn set_patience(&self, order: &Order) -> Result<Outcome, Trouble> {
        let Some(pod) = self.live_home(order).await? else { return Ok(Outcome::Gone) };
        self.make_patient(order, &pod).await
    }

    async fn make_patient(&self, order: &Order, pod: &Value) -> Result<Outcome, Trouble> {
        let mut tolerations = pod.pointer("/spec/tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
        let before = tolerations.clone();
        for taint in LOST_TAINTS {
            let mut is_tolerated = false;
            for toleration in tolerations.iter_mut().filter(|toleration| tolerates(toleration, taint)) {
                is_tolerated = true;
                if let Some(toleration) = toleration.as_object_mut() {
                    toleration.shift_remove("tolerationSeconds");
                }
            }
            if !is_tolerated {
                tolerations.push(json!({"key": taint, "operator": "Exists", "effect": "NoExecute"}));
            }
        }
        if tolerations == before {
            return Ok(Outcome::Done);
        }
        let metadata = json!({"uid": &*order.uid.0, "resourceVersion": text(pod, "/metadata/resourceVersion")});
        let patch = json!({"metadata": metadata, "spec": {"tolerations": tolerations}});
        match gone_or_done(self.home.patch(pod_path(&order.home), MERGE, &patch).await) {
            Err(trouble) => Ok(trouble.verdict()),
            done => done,
        }
    }

    /// The kubelet's word that nothing of the pod runs any more: the object goes.
    pub(super) async fn confirm(&self, order: &Order) -> Result<Outcome, Trouble> {
        self.delete_home(order, Some(0)).await
    }

    pub(super) async fn delete_home(&self, order: &Order, grace_seconds: Option<u64>) -> Result<Outcome, Trouble> {
        let deletion = Deletion { uid: Some(&order.uid.0), grace_seconds, ..Deletion::default() };
        let deleted = self.home.delete(pod_path(&order.home), deletion).await;
        self.unless_other(order, deleted).await
    }

    pub(super) async fn evict_home(&self, order: &Order) -> Result<Outcome, Trouble> {
        let eviction = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"namespace": &*order.home.namespace, "name": &*order.home.name},
            "deleteOptions": {"preconditions": {"uid": &*order.uid.0}},
        });
        let evicted = self.home.post(format!("{}/eviction", pod_path(&order.home)), &eviction).await;
        self.unless_other(order, evicted).await
    }

    /// It may be another incarnation, or two writers at once: a look says which.
    async fn unless_other(&self, order: &Order, written: Result<(), Trouble>) -> Result<Outcome, Trouble> {
        match gone_or_done(written) {
            Err(trouble) if trouble.is_other() => {
                if self.live_home(order).await?.is_none() {
                    Ok(Outcome::Gone)
                } else {
                    Err(trouble)
                }
            }
            other => other,
        }
    }
}

/// What a write to the home pod came to: without the pod there is nothing to write.
fn gone_or_done(written: Result<(), Trouble>) -> Result<Outcome, Trouble> {
    match written {
        Ok(()) => Ok(Outcome::Done),
        Err(trouble) if trouble.is(StatusCode::NOT_FOUND) => Ok(Outcome::Gone),
        Err(trouble) => Err(trouble),
    }
}

/// Whether an object is being deleted.
pub(super) fn is_deleting(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// Whether the pod's annotations record just this decision.
pub(super) fn records(pod: &Value, decision: &Decision) -> bool {
    record::annotations(decision).iter().all(|(key, value)| annotation(pod, key) == value)
}

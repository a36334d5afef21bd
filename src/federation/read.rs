//! In: the JSON object of a home pod or of a run, from any server. Out: its facts, or what is wrong with it; never a panic.

use serde_json::Value;

use super::{
    facts::{Decision, Deletion, HomePod, Phase, RunName, RunPod},
    names, status,
};
use crate::model::{
    ids::{PodKey, PodUid},
    time::{DurationMs, Timestamp},
};

/// An object that cannot be what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name}: {what}")]
pub struct BadPod {
    /// `home pod` or `run`.
    pub kind: &'static str,
    /// `namespace/name`, as far as it has them.
    pub name: String,
    /// What is wrong.
    pub what: String,
}

/// Owners that replace a pod that is deleted.
const REPLACERS: [&str; 3] = ["ReplicaSet", "StatefulSet", "ReplicationController"];
/// The taints of a node that does not answer, after which the node lifecycle controller evicts.
pub const LOST_TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Whether a toleration of a pod is for this taint with the effect `NoExecute`, for however long.
pub fn tolerates(toleration: &Value, taint: &str) -> bool {
    let is = |field: &str, wanted: &str| ["", wanted].contains(&toleration[field].as_str().unwrap_or_default());
    is("key", taint) && is("effect", "NoExecute")
}

struct Reader<'a> {
    kind: &'static str,
    pod: &'a Value,
}

impl<'a> Reader<'a> {
    fn text(&self, pointer: &str) -> &'a str {
        self.pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn bad(&self, what: impl Into<String>) -> BadPod {
        let name = format!("{}/{}", self.text("/metadata/namespace"), self.text("/metadata/name"));
        BadPod { kind: self.kind, name, what: what.into() }
    }

    fn needed(&self, pointer: &str) -> Result<&'a str, BadPod> {
        let text = self.text(pointer);
        if text.is_empty() { Err(self.bad(format!("{} is missing", pointer[1..].replace('/', ".")))) } else { Ok(text) }
    }

    fn meta(&self, map: &str, key: &str) -> &'a str {
        self.pod["metadata"][map][key].as_str().unwrap_or_default()
    }

    fn deletion(&self) -> Result<Option<Deletion>, BadPod> {
        let text = self.text("/metadata/deletionTimestamp");
        if text.is_empty() {
            return Ok(None);
        }
        let due = Timestamp::parse_rfc3339(text).ok_or_else(|| self.bad(format!("metadata.deletionTimestamp {text:?} is not a time")))?;
        let grace = self.pod["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
        Ok(Some(Deletion { due, grace: DurationMs(u64::try_from(grace).unwrap_or_default().saturating_mul(1_000)) }))
    }

    fn phase(&self) -> Phase {
        match self.text("/status/phase") {
            "Running" => Phase::Running,
            "Succeeded" => Phase::Succeeded,
            "Failed" => Phase::Failed,
            "Unknown" => Phase::Unknown,
            _ => Phase::Pending,
        }
    }

    /// What the annotations record; `None` unless all of it is there and about this very pod: a copied manifest may bear another pod's.
    fn decision(&self, key: &PodKey, uid: &PodUid) -> Option<Decision> {
        let said = |key| Some(self.meta("annotations", key)).filter(|text| !text.is_empty());
        let attempt = said(names::ATTEMPT)?.parse().ok().filter(|attempt| *attempt > 0)?;
        let (namespace, name) = said(names::RUN)?.split_once('/')?;
        (name == names::run_name(key, uid, attempt)).then_some(())?;
        let run = RunName { namespace: namespace.into(), name: name.into() };
        let (cluster, cluster_uid, node) = (said(names::CLUSTER)?, said(names::CLUSTER_UID)?, said(names::NODE)?);
        Some(Decision { cluster: cluster.into(), cluster_uid: cluster_uid.into(), node: node.into(), attempt, run })
    }

    fn patience(&self) -> Option<u64> {
        let tolerations = self.pod["spec"]["tolerations"].as_array().map(Vec::as_slice).unwrap_or_default();
        let of = |taint: &str| -> Option<u64> {
            let matching = tolerations.iter().filter(|toleration| tolerates(toleration, taint));
            let spans = matching.map(|toleration| toleration["tolerationSeconds"].as_i64().map(|s| u64::try_from(s).unwrap_or_default()));
            // Several match: the shortest counts, as in the taint manager. None matches: evicted at once.
            spans
                .reduce(|a, b| match (a, b) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                })
                .unwrap_or(Some(0))
        };
        LOST_TAINTS.iter().filter_map(|taint| of(taint)).min()
    }
}

impl HomePod {
    /// Reads a home pod; `virtual_node` is the cluster's Node at home.
    pub fn read(pod: &Value, virtual_node: &str) -> Result<Self, BadPod> {
        let reader = Reader { kind: "home pod", pod };
        let key = PodKey::new(reader.needed("/metadata/namespace")?, reader.needed("/metadata/name")?);
        let uid = PodUid::from(reader.needed("/metadata/uid")?);
        let node = reader.text("/spec/nodeName");
        // On another node the annotations are history.
        let decision = if node.is_empty() || node == virtual_node { reader.decision(&key, &uid) } else { None };
        let shown = status::shown_attempt(&pod["status"]);
        let owners = pod["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(Self {
            resource_version: reader.text("/metadata/resourceVersion").into(),
            generation: pod["metadata"]["generation"].as_i64().unwrap_or_default(),
            bound: node == virtual_node,
            deletion: reader.deletion()?,
            phase: reader.phase(),
            started: status::has_started(&pod["status"]),
            mirrored: shown.is_some() && shown == decision.as_ref().map(|decision| decision.attempt),
            restarts_always: matches!(reader.text("/spec/restartPolicy"), "" | "Always"),
            waits_for_logs: pod["metadata"]["finalizers"].as_array().into_iter().flatten().any(|one| one == names::LOGS_FINALIZER),
            is_replaced: owners.iter().any(|owner| {
                owner["controller"].as_bool() == Some(true) && REPLACERS.contains(&owner["kind"].as_str().unwrap_or_default())
            }),
            status_digest: status::digest(&status::mirrored(&pod["status"])),
            patience_seconds: reader.patience(),
            restarts: status::restarts(&pod["status"]),
            decision,
            key,
            uid,
        })
    }

    /// Whether the run of this decision may be created: asked of a home pod that was just read, immediately before the run is.
    pub fn may_create(&self, decision: &Decision) -> bool {
        let lives = self.deletion.is_none() && !self.phase.is_terminal();
        let existed = self.mirrored || (self.started && !self.restarts_always);
        lives && !existed && self.decision.as_ref() == Some(decision)
    }
}

impl RunPod {
    /// Reads a run. Its labels and annotations must say whose it is: whatever does not is not ours.
    pub fn read(mut pod: Value) -> Result<Self, BadPod> {
        let status = pod.get_mut("status").map(Value::take).unwrap_or_default();
        let reader = Reader { kind: "run", pod: &pod };
        let name = RunName { namespace: reader.needed("/metadata/namespace")?.into(), name: reader.needed("/metadata/name")?.into() };
        let uid = reader.needed("/metadata/uid")?.into();
        let of = |map: &str, key: &str| match reader.meta(map, key) {
            "" => Err(reader.bad(format!("{map} lack {key}: it was not created by this scheduler"))),
            text => Ok(text),
        };
        let home_uid = PodUid::from(of("labels", names::RUN_HOME_UID)?);
        let home = PodKey::new(of("annotations", names::RUN_HOME_NAMESPACE)?, of("annotations", names::RUN_HOME_NAME)?);
        let attempt = of("labels", names::ATTEMPT)?;
        let attempt = attempt.parse().map_err(|_| reader.bad(format!("label {} {attempt:?} is not a number", names::ATTEMPT)))?;
        let home_generation = of("annotations", names::RUN_HOME_GENERATION).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
        let deletion = reader.deletion()?;
        let finalizers = pod["metadata"]["finalizers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let node = Some(reader.text("/spec/nodeName")).filter(|node| !node.is_empty());
        let started = status::has_started(&status);
        let mut phase = Reader { kind: "run", pod: &serde_json::json!({ "status": { "phase": status["phase"] } }) }.phase();
        let mut reason = status["reason"].as_str().unwrap_or_default().to_owned();
        let mut shown = status::mirrored(&status);
        if deletion.is_some_and(|deletion| deletion.grace.0 == 0) && !phase.is_terminal() {
            phase = Phase::Failed;
            "Deleted".clone_into(&mut reason);
            shown = status::deleted(shown);
        }
        let rejected = phase == Phase::Failed && !started && reason != "DeadlineExceeded";
        if rejected && reason.is_empty() {
            "Failed".clone_into(&mut reason);
        }
        Ok(Self {
            resource_version: reader.text("/metadata/resourceVersion").into(),
            is_held: finalizers.iter().any(|finalizer| finalizer == names::RUN_FINALIZER),
            node: node.map(Into::into),
            rejected: rejected.then(|| reason.into()),
            status: shown,
            name,
            uid,
            home_uid,
            home,
            attempt,
            home_generation,
            deletion,
            phase,
            started,
        })
    }
}

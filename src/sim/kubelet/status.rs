//! The status of a pod as a kubelet reports it. In: the pod and how it fares. Out: a strategic merge patch.

use serde_json::{Value, json};

use super::bound::{BoundContainer, BoundPod};

/// How a pod fares on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Seen, not started.
    Admitting,
    /// Containers cannot be created or images not pulled: reason and message.
    Waiting(String, String),
    /// Containers run since then.
    Running(String),
    /// Containers ended and will be started again: exit code, start and end.
    Restarting(i32, String, String),
    /// Containers ended for good: exit code, start and end.
    Ended(i32, String, String),
    /// Refused before anything started: reason and message.
    Rejected(String, String),
    /// Deleted before anything started.
    NeverStarted,
}

impl Stage {
    /// Whether the pod uses nothing of the node any more.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Ended(..) | Self::Rejected(..) | Self::NeverStarted)
    }

    fn phase(&self) -> &'static str {
        match self {
            Self::Admitting | Self::Waiting(..) => "Pending",
            Self::Running(_) | Self::Restarting(..) => "Running",
            Self::Ended(0, ..) => "Succeeded",
            Self::Ended(..) | Self::Rejected(..) | Self::NeverStarted => "Failed",
        }
    }

    fn container_state(&self) -> Value {
        match self {
            Self::Admitting | Self::NeverStarted => json!({"waiting": {"reason": "ContainerCreating"}}),
            Self::Waiting(reason, message) => json!({"waiting": {"reason": reason, "message": message}}),
            Self::Running(since) => json!({"running": {"startedAt": since}}),
            Self::Restarting(..) => {
                json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}})
            }
            Self::Ended(code, since, until) => terminated(*code, since, until),
            Self::Rejected(..) => Value::Null,
        }
    }
}

fn terminated(code: i32, since: &str, until: &str) -> Value {
    let reason = if code == 0 { "Completed" } else { "Error" };
    json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": since, "finishedAt": until}})
}

/// What is reported of a pod.
pub(super) struct Report<'a> {
    pub pod: &'a BoundPod,
    pub stage: &'a Stage,
    /// Exit code, start and end of the life before this one.
    pub last: Option<&'a (i32, String, String)>,
    pub restarts: u32,
    pub address: u32,
    pub now: &'a str,
}

impl Report<'_> {
    /// The patch. Addresses are counted through 10.64.0.0/10, which is nobody's.
    pub fn patch(&self) -> Value {
        let (pod, stage, now) = (self.pod, self.stage, self.now);
        let started = if pod.status.start_time.is_empty() { now } else { &pod.status.start_time };
        let mut status = json!({"phase": stage.phase(), "startTime": started, "observedGeneration": pod.metadata.generation});
        if let Stage::Rejected(reason, message) = stage {
            status["reason"] = reason.clone().into();
            status["message"] = message.clone().into();
            return json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
        }
        let running = matches!(stage, Stage::Running(_));
        if running {
            let address = format!("10.{}.{}.{}", 64 + ((self.address >> 16) & 0x3f), (self.address >> 8) & 0xff, self.address & 0xff);
            status["podIP"] = address.clone().into();
            status["podIPs"] = json!([{"ip": address}]);
        }
        let kinds = [("PodReadyToStartContainers", running), ("Initialized", true), ("Ready", running), ("ContainersReady", running)];
        let reason = match stage {
            Stage::Ended(..) | Stage::NeverStarted => "PodCompleted",
            _ => "ContainersNotReady",
        };
        let conditions: Vec<Value> =
            kinds.into_iter().map(|(kind, holds)| condition(kind, holds, if holds { "" } else { reason }, now)).collect();
        status["conditions"] = conditions.into();
        status["containerStatuses"] =
            pod.spec.containers.iter().map(|container| self.container(container, &stage.container_state())).collect();
        if !pod.spec.init_containers.is_empty() {
            let state = if matches!(stage, Stage::Admitting | Stage::Waiting(..) | Stage::NeverStarted) {
                stage.container_state()
            } else {
                terminated(0, started, started)
            };
            status["initContainerStatuses"] = pod.spec.init_containers.iter().map(|container| init_container(container, &state)).collect();
        }
        if !pod.spec.ephemeral_containers.is_empty() && running {
            let state = json!({"running": {"startedAt": now}});
            status["ephemeralContainerStatuses"] =
                pod.spec.ephemeral_containers.iter().map(|container| init_container(container, &state)).collect();
        }
        json!({"metadata": {"uid": pod.metadata.uid}, "status": status})
    }

    fn container(&self, container: &BoundContainer, state: &Value) -> Value {
        let running = matches!(self.stage, Stage::Running(_));
        let last = self.last.map_or_else(|| json!({}), |(code, since, until)| terminated(*code, since, until));
        let mut status = json!({"name": container.name, "image": container.image, "imageID": container.image, "ready": running, "started": running,
            "restartCount": self.restarts, "state": state, "lastState": last});
        if running {
            status["containerID"] = format!("sim://{}/{}", self.pod.uid(), container.name).into();
            status["resources"] = container.resources.clone();
        }
        status
    }
}

fn init_container(container: &BoundContainer, state: &Value) -> Value {
    json!({"name": container.name, "image": container.image, "imageID": container.image, "ready": true, "restartCount": 0, "state": state, "lastState": {}})
}

fn condition(kind: &str, holds: bool, reason: &str, now: &str) -> Value {
    let mut condition = json!({"type": kind, "status": if holds { "True" } else { "False" }, "lastTransitionTime": now});
    if !reason.is_empty() {
        condition["reason"] = reason.into();
    }
    condition
}

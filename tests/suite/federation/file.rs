//! A scenario file as it is written. In: YAML. Out: what is there, what happens when, and what must come of it.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::Value;

/// One failure mode.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct File {
    /// The mode, in words.
    pub title: String,
    /// Why a part of it, or all of it, cannot be played in a simulation.
    #[serde(default)]
    pub not_runnable: Option<String>,
    /// Tests elsewhere that hold the mode or a part of it: `file: test`.
    #[serde(default)]
    pub also: Vec<String>,
    /// What is played.
    #[serde(default)]
    pub cases: Vec<Case>,
}

/// One play.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Case {
    /// What is special about it.
    pub name: String,
    /// Compute clusters; one called `cloud` if there are none.
    #[serde(default)]
    pub clusters: BTreeMap<String, ClusterDef>,
    /// CPU of the one home node; without it nothing runs at home.
    #[serde(default)]
    pub home_cpu: Option<String>,
    /// Schedulers of which one leads.
    #[serde(default = "one")]
    pub replicas: u32,
    /// How long after the last step everything must have come about.
    #[serde(default = "five_minutes")]
    pub settle: String,
    /// What happens.
    pub steps: Vec<Step>,
    /// What must hold in the end, and goes on holding.
    #[serde(default)]
    pub expect: Expect,
    /// Runs may be started again under the same home pod: `restartPolicy: Always` asks for it.
    #[serde(default)]
    pub may_start_again: bool,
    /// Why something may be left over there, or stuck at home, in the end.
    #[serde(default)]
    pub unfinished: Option<String>,
}

fn one() -> u32 {
    1
}

fn five_minutes() -> String {
    "5m".into()
}

/// A compute cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClusterDef {
    /// How many nodes, `n1` and on.
    pub nodes: u32,
    /// CPU of each.
    pub cpu: String,
    /// Architecture of all.
    pub arch: String,
    /// `spec` beside its access.
    pub spec: Value,
    /// Whether it is there and registered from the start.
    pub register: bool,
    /// Whether it must be ready before the first step.
    pub ready: bool,
}

impl Default for ClusterDef {
    fn default() -> Self {
        Self { nodes: 2, cpu: "8".into(), arch: "amd64".into(), spec: Value::Null, register: true, ready: true }
    }
}

/// One step: what is set of these happens, in this order.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Step {
    /// From the moment when all clusters were ready.
    pub at: String,
    /// Home pods are created.
    pub create: Option<Pods>,
    /// A line: `up`, `refused`, `silent`, `slow`.
    pub link: BTreeMap<String, String>,
    /// A line goes up and down.
    pub flap: Option<Flap>,
    /// Requests that go wrong.
    pub fault: Option<FaultStep>,
    /// No more faults there.
    pub calm: Option<String>,
    /// Rights of our client over there.
    pub rights: Option<Rights>,
    /// The leader is killed and another one started.
    pub kill: bool,
    /// The leader is killed at the moment when it sends this.
    pub kill_at: Option<KillAt>,
    /// All schedulers end, and so many are started after a while.
    pub away: Option<String>,
    /// Requests beside us.
    pub call: Vec<Call>,
    /// What is done to the run of a home pod by somebody over there.
    pub run: Option<RunStep>,
    /// A node dies: nobody reports from it any more.
    pub dead_node: Option<Place>,
    /// The history of a cluster is compacted: watches get 410.
    pub compact: Option<String>,
    /// A compute cluster is registered under a name, with the kubeconfig of a cluster.
    pub register: Option<Register>,
    /// What must hold before any of it.
    pub expect: Option<Expect>,
}

/// Home pods.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Pods {
    pub name: String,
    /// More than one get `-1`, `-2`, ... behind their name.
    pub count: u32,
    pub namespace: String,
    /// How long it runs; for ever when empty.
    pub run: String,
    /// Exit codes of its lives.
    pub exit: String,
    pub restart: String,
    pub cpu: String,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Kind of its owner.
    pub owner: String,
    /// A Secret that it reads, created with it.
    pub secret: String,
    /// More variables for the fake kubelet, such as `SIM_REJECT`.
    pub sim: BTreeMap<String, String>,
    /// Merged into `spec`.
    pub spec: Value,
    /// May stay at home.
    pub anywhere: bool,
    /// Refused by the API server, as is expected.
    pub refused: bool,
}

impl Default for Pods {
    fn default() -> Self {
        let own = str::to_owned;
        Self {
            name: String::new(),
            count: 1,
            namespace: own("default"),
            run: String::new(),
            exit: String::new(),
            restart: own("Never"),
            cpu: own("100m"),
            image: own("registry.example/work:1"),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owner: String::new(),
            secret: String::new(),
            sim: BTreeMap::new(),
            spec: Value::Null,
            anywhere: false,
            refused: false,
        }
    }
}

/// A line that flaps.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Flap {
    pub cluster: String,
    /// How long it stays up, and how long down.
    pub every: String,
    /// How often it goes down.
    pub times: u32,
}

/// Requests that go wrong.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FaultStep {
    pub on: String,
    #[serde(default)]
    pub verb: Option<String>,
    #[serde(default)]
    pub resource: Option<String>,
    /// `refused`, `errorBefore`, `errorAfter`, `lostAfter`, `unavailable`, `hang`, `hangAfter`, `late`, `tooMany`, `watchExpired`, `listExpired`.
    pub fault: String,
    /// How often; for ever when absent.
    #[serde(default)]
    pub times: Option<u32>,
    #[serde(default)]
    pub skip: u32,
    /// For `late`.
    #[serde(default)]
    pub delay: String,
}

/// The leader is killed when it sends a request: before it takes effect, or after it and before the answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KillAt {
    pub on: String,
    pub verb: String,
    pub resource: String,
    #[serde(default)]
    pub after: bool,
    #[serde(default)]
    pub skip: u32,
}

/// Rights of our client.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Rights {
    pub on: String,
    /// `verb resource`, `*` for any.
    pub deny: Vec<String>,
    pub revoke: bool,
    pub restore: bool,
}

/// A request past all faults. `$(pod)` in path and body stands for the UID of a home pod, without dashes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Call {
    pub on: String,
    /// `POST`, `PATCH` (merge), `PUT`, `DELETE`.
    pub method: String,
    pub path: String,
    #[serde(default)]
    pub body: Value,
    /// Whether it may be refused.
    #[serde(default)]
    pub may_fail: bool,
}

/// Somebody over there acts on a run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RunStep {
    /// The home pod.
    pub of: String,
    pub on: String,
    /// `delete`, `forceDelete`, `evict`, `stripFinalizer`, `deleteSecrets`.
    pub act: String,
}

/// A node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub on: String,
    pub node: String,
}

/// A `ComputeCluster`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Register {
    pub name: String,
    /// The cluster that its kubeconfig leads to; by its own name when absent.
    #[serde(default)]
    pub to: Option<String>,
    /// The kubeconfig's text, instead.
    #[serde(default)]
    pub kubeconfig: Option<Value>,
    #[serde(default)]
    pub spec: Value,
}

/// What must hold. Everything that is absent is not looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Expect {
    /// Home pods by name; `*` at the end for any rest.
    pub pods: BTreeMap<String, PodExpect>,
    pub events: Vec<EventExpect>,
    /// Conditions of `ComputeCluster`s: status, or status and reason with a space between.
    pub conditions: BTreeMap<String, BTreeMap<String, String>>,
    /// Words that the messages of a `ComputeCluster`'s conditions contain.
    pub says: BTreeMap<String, String>,
    /// Runs of ours over there that are not being deleted.
    pub runs: BTreeMap<String, usize>,
    /// Home pods whose log came home.
    pub logs: Vec<String>,
    /// Objects that are there: cluster and path.
    pub present: Vec<String>,
    /// Objects that are not.
    pub absent: Vec<String>,
    /// Most calls that a cluster has answered since the start.
    pub most_starts: Option<usize>,
}

/// A home pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PodExpect {
    pub phase: Option<String>,
    /// `status.reason`.
    pub reason: Option<String>,
    /// Of its first container.
    pub exit: Option<i64>,
    /// Where it was placed: a cluster, `home`, or `nowhere`.
    pub on: Option<String>,
    /// Number of its last run.
    pub attempt: Option<u32>,
    /// `status.podIP`, empty for none.
    pub address: Option<String>,
    /// The pod is gone, or another one has its name.
    pub gone: bool,
    /// It is being deleted, or not.
    pub deleting: Option<bool>,
    pub conditions: BTreeMap<String, String>,
    /// How often its containers were started, restarts in place not counted.
    pub starts: Option<usize>,
    /// Part of the message of condition `PodScheduled`.
    pub waits_for: Option<String>,
}

/// An event at home.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EventExpect {
    /// The object's name.
    pub on: String,
    pub reason: String,
    /// Part of its note.
    #[serde(default)]
    pub note: String,
}

/// `90s`, `5m`, `250ms`, `1h`.
pub fn span(text: &str) -> Duration {
    if text.is_empty() {
        return Duration::ZERO;
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().unwrap_or_else(|_| panic!("{text:?} is no span of time"));
    match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "s" | "" => Duration::from_secs(number),
        "m" => Duration::from_secs(60 * number),
        "h" => Duration::from_secs(3600 * number),
        other => panic!("{other:?} is no unit of time"),
    }
}

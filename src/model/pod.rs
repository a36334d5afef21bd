//! A pod as its object says it: what the wire layer hands to the engine. Strings are still strings here.

use std::sync::Arc;

use super::{
    affinity::NodeAffinity,
    devices::PodDevices,
    features::NodeFeatures,
    gang::Membership,
    ids::{ClusterId, PodKey, PodUid},
    labels::LabelFacts,
    placement::{RecordedPlacement, TravelFacts},
    ports::HostPort,
    requests::PodRequestSums,
    taints::TolerationFacts,
    terms::{OwnerFacts, PodAffinityFacts, SpreadFacts},
    time::Timestamp,
    volumes::PodVolumes,
};

/// One pod object, reduced to what scheduling reads.
#[derive(Clone, Debug, Default)]
pub struct PodFacts {
    /// The cluster it lives in.
    pub cluster: ClusterId,
    /// Namespace and name.
    pub key: PodKey,
    /// `metadata.uid`.
    pub uid: PodUid,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Phase `Succeeded` or `Failed`: uses nothing any more.
    pub finished: bool,
    /// `spec.nodeName`, once bound.
    pub node_name: Option<Box<str>>,
    /// `status.nominatedNodeName`.
    pub nominated_node: Option<Box<str>>,
    /// `status.startTime`.
    pub started: Option<Timestamp>,
    /// Condition `DisruptionTarget` says that a scheduler preempted it.
    pub preempted: bool,
    /// Names of `spec.schedulingGates`.
    pub gates: Vec<Box<str>>,
    /// `metadata.labels`.
    pub labels: LabelFacts,
    /// Reason and message of condition `PodScheduled=False`, so that an unchanged one is not written again.
    pub unscheduled_condition: Option<(Box<str>, Box<str>)>,
    /// The decision that its annotations record.
    pub recorded: Option<Box<RecordedPlacement>>,
    /// The group of pods that it says it is a member of.
    pub group: Option<Box<Membership>>,
    /// Number of its last run, zero before the first: the same annotations.
    pub run_attempt: u32,
    /// The part shared by all pods of a template.
    pub spec: PodSpecFacts,
}

/// What pods cut from one template have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSpecFacts {
    /// `spec.schedulerName`.
    pub scheduler_name: Box<str>,
    /// `spec.priority`.
    pub priority: i32,
    /// `spec.preemptionPolicy: Never`.
    pub never_preempts: bool,
    /// Sums of requests.
    pub requests: PodRequestSums,
    /// `spec.nodeSelector`.
    pub node_selector: LabelFacts,
    /// `spec.affinity.nodeAffinity`.
    pub node_affinity: Option<Box<NodeAffinity>>,
    /// `spec.affinity.podAffinity` and `podAntiAffinity`.
    pub pod_affinity: Option<Box<PodAffinityFacts>>,
    /// `spec.topologySpreadConstraints`, `matchLabelKeys` merged into the selectors.
    pub spread: Vec<SpreadFacts>,
    /// The owner that controls it, if it is of a kind whose selector counts.
    pub owner: Option<Box<OwnerFacts>>,
    /// `spec.tolerations`.
    pub tolerations: Vec<TolerationFacts>,
    /// Host ports of containers and sidecars.
    pub host_ports: Vec<HostPort>,
    /// Images of init containers, containers and image volumes, one entry each, as written.
    pub images: Vec<Box<str>>,
    /// Volumes that rules read something of.
    pub volumes: Option<Arc<PodVolumes>>,
    /// Claims of devices.
    pub devices: Option<Arc<PodDevices>>,
    /// Features that its node must declare.
    pub features: NodeFeatures,
    /// What the pod asks for that needs a rule beyond this list.
    pub wants: Wants,
    /// What matters only where the pod may leave home.
    pub travel: Option<Box<TravelFacts>>,
}

/// Parts of a pod spec that only other plugins can judge. A pod is never placed as if such a rule were absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools)] // a set of independent flags
pub struct Wants {
    /// `spec.resourceClaims`.
    pub resource_claims: bool,
    /// `spec.schedulingGroup`: member of a pod group.
    pub pod_group: bool,
}

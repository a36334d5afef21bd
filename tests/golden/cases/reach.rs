//! What the cases of each family must have reached. In: nothing. Out: beginnings of what the coverage counts.

const BALANCED_SKIPS: &str = "NodeResourcesBalancedAllocation skips scoring";
const BALANCED: &str = "NodeResourcesBalancedAllocation scores";
const FIT: &str = "NodeResourcesFit scores";
const FIT_PICKS: &str = "NodeResourcesFit accepts and refuses";
const NO_CPU: &str = "NodeResourcesFit refuses (Unschedulable): Insufficient cpu";
const NO_MEMORY: &str = "NodeResourcesFit refuses (Unschedulable): Insufficient memory";
const NEVER_CPU: &str = "NodeResourcesFit refuses (UnschedulableAndUnresolvable): Insufficient cpu";
const NEVER_MEMORY: &str = "NodeResourcesFit refuses (UnschedulableAndUnresolvable): Insufficient memory";
const CORDONED: &str = "NodeUnschedulable refuses (UnschedulableAndUnresolvable): node(s) were unschedulable";
const TAINTED: &str = "TaintToleration refuses (UnschedulableAndUnresolvable): node(s) had untolerated taint(s)";
const SELECTOR: &str = "NodeAffinity refuses (UnschedulableAndUnresolvable): node(s) didn't match Pod's node affinity/selector";
const PINNED: &str = "NodeAffinity refuses (UnschedulableAndUnresolvable): node(s) didn't satisfy plugin(s) [NodeAffinity]";
const PORTS_TAKEN: &str = "NodePorts refuses (Unschedulable): node(s) didn't have free ports for the requested pod ports";
const SKEWED: &str = "PodTopologySpread refuses (Unschedulable): node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str =
    "PodTopologySpread refuses (UnschedulableAndUnresolvable): node(s) didn't match pod topology spread constraints (missing";
const TOO_NEAR: &str = "InterPodAffinity refuses (Unschedulable): node(s) didn't match pod anti-affinity rules";
const UNWANTED: &str = "InterPodAffinity refuses (Unschedulable): node(s) didn't satisfy existing pods anti-affinity rules";
const TOO_FAR: &str = "InterPodAffinity refuses (UnschedulableAndUnresolvable): node(s) didn't match pod affinity rules";

pub const RESOURCES: &[&str] = &[
    NO_CPU,
    NO_MEMORY,
    NEVER_CPU,
    NEVER_MEMORY,
    "NodeResourcesFit refuses (Unschedulable): Insufficient ephemeral-storage",
    "NodeResourcesFit refuses (Unschedulable): Insufficient example.com/gpu",
    "NodeResourcesFit refuses (Unschedulable): Too many pods",
    "NodeResourcesFit refuses (UnschedulableAndUnresolvable): Insufficient ephemeral-storage",
    "NodeResourcesFit refuses (UnschedulableAndUnresolvable): Insufficient example.com/gpu",
    "NodeResourcesFit refuses (UnschedulableAndUnresolvable): Insufficient hugepages-2Mi",
    "NodeResourcesFit refuses (UnschedulableAndUnresolvable): Insufficient vendor.example/fpga",
    FIT_PICKS,
    FIT,
    BALANCED,
    BALANCED_SKIPS,
];
pub const TAINTS: &[&str] =
    &[CORDONED, TAINTED, "NodeUnschedulable accepts and refuses", "TaintToleration accepts and refuses", "TaintToleration scores"];
pub const AFFINITY: &[&str] = &[
    SELECTOR,
    PINNED,
    "NodeAffinity refuses everywhere (UnschedulableAndUnresolvable): pod affinity terms conflict",
    "NodeAffinity accepts and refuses",
    "NodeAffinity scores",
    "NodeAffinity skips scoring",
    "NodeName accepts and refuses",
    "NodeName refuses (UnschedulableAndUnresolvable): node(s) didn't satisfy plugin(s) [NodeName]",
    "error: running PreScore plugin \"NodeAffinity\"",
];
pub const FEATURES: &[&str] = &[
    "NodeDeclaredFeatures accepts and refuses",
    "NodeDeclaredFeatures refuses (UnschedulableAndUnresolvable): node(s) didn't match Pod's required features",
];
pub const PORTS: &[&str] = &[PORTS_TAKEN, "NodePorts accepts and refuses"];
pub const IMAGES: &[&str] = &["ImageLocality scores"];
pub const GATES: &[&str] = &["gated: SchedulingGates", FIT];
pub const SCORING: &[&str] = &[
    "NodeAffinity refuses (UnschedulableAndUnresolvable): node(s) didn't match scheduler-enforced node affinity",
    "ImageLocality scores",
    "NodeAffinity scores",
    "TaintToleration scores",
    FIT,
    BALANCED,
    BALANCED_SKIPS,
];
pub const MIXED: &[&str] = &[NO_CPU, NEVER_MEMORY, CORDONED, TAINTED, SELECTOR, PORTS_TAKEN, "gated: SchedulingGates", BALANCED];
pub const SPREAD: &[&str] =
    &[SKEWED, NO_LABEL, "PodTopologySpread accepts and refuses", "PodTopologySpread scores", "PodTopologySpread skips scoring"];
pub const SPREAD_DEFAULTS: &[&str] = SPREAD;
pub const POD_AFFINITY: &[&str] =
    &[TOO_NEAR, UNWANTED, TOO_FAR, "InterPodAffinity accepts and refuses", "InterPodAffinity scores", "InterPodAffinity skips scoring"];
pub const TOPOLOGY: &[&str] = &[SKEWED, NO_LABEL, TOO_FAR, "PodTopologySpread scores", "InterPodAffinity scores"];
pub const VOLUMES: &[&str] = &[
    "NodeVolumeLimits refuses (Unschedulable): csi.example.com CSI driver is not installed on the node",
    "NodeVolumeLimits refuses (Unschedulable): node(s) exceed max volume count",
    "VolumeBinding refuses (UnschedulableAndUnresolvable): node(s) did not have enough free storage",
    "VolumeBinding refuses (UnschedulableAndUnresolvable): node(s) didn't find available persistent volumes to bind",
    "VolumeBinding refuses (UnschedulableAndUnresolvable): node(s) didn't match PersistentVolume's node affinity",
    "VolumeBinding refuses (UnschedulableAndUnresolvable): node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
    "VolumeBinding refuses everywhere (UnschedulableAndUnresolvable): PVC web/asked-own was not created for pod web/asked",
    "VolumeBinding refuses everywhere (UnschedulableAndUnresolvable): waiting for ephemeral volume controller to create",
    "VolumeBinding refuses everywhere (UnschedulableAndUnresolvable): pod has unbound immediate PersistentVolumeClaims",
    "VolumeBinding scores",
    "VolumeRestrictions refuses (Unschedulable): node(s) had no available disk",
    "VolumeRestrictions refuses (Unschedulable): node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod",
    "VolumeRestrictions refuses everywhere (UnschedulableAndUnresolvable): persistentvolumeclaim",
    "VolumeZone refuses (UnschedulableAndUnresolvable): node(s) had no available volume zone",
];
pub const PREEMPTION: &[&str] = &[
    "preemption nominates",
    "preemption has 0 victims",
    "preemption has 1 victims",
    "preemption has 2 victims",
    "preemption has 3 or more victims",
    "preemption says: found a potential placement",
    "preemption says: preemptionPolicy=Never",
    "preemption says: terminating pod on the nominated node",
    "preemption says: No preemption victims found",
    "preemption says: Preemption is not helpful",
    "preemption says: Insufficient cpu",
    "preemption says: didn't match pod topology spread constraints",
    "preemption says: anti-affinity rules",
    PORTS_TAKEN,
    SKEWED,
    UNWANTED,
];
pub const VOLUME_ROOM: &[&str] = &[
    "VolumeBinding refuses (UnschedulableAndUnresolvable): node(s) did not have enough free storage",
    "VolumeBinding refuses (UnschedulableAndUnresolvable): node(s) didn't find available persistent volumes to bind",
    "VolumeBinding scores",
];
pub const ALIKE_VICTIMS: &[&str] = &[
    "preemption nominates",
    "preemption leaves a choice",
    "preemption has 1 victims",
    "preemption has 2 victims",
    "preemption has 3 or more victims",
];
pub const MOVED_PODS: &[&str] =
    &["preemption nominates", "preemption says: didn't match pod topology spread constraints", "InterPodAffinity refuses", SKEWED, TOO_FAR];

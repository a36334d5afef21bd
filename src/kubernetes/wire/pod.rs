//! A Pod object: JSON in, [`PodFacts`] out.
//!
//! Defaults that the API server writes into every pod (requests from limits, the scheduler's name, host ports of the host network) are filled in
//! here as well, so that objects read from files mean the same as objects read from a cluster.

use std::{borrow::Cow, sync::Arc};

use serde::Deserialize;

use super::{
    devices::{ClaimStatusWire, PodClaimWire, pod_devices},
    json::{Pairs, QuantityText, Text, or_default},
    meta::{ConditionWire, MetaWire},
    terms::{PodAffinityWire, RequirementWire, SpreadWire, owner, pod_affinity},
    volume::VolumeWire,
};
use crate::model::{
    affinity::{NodeAffinity, NodeSelector, NodeSelectorTerm, PreferredTerm},
    features::{self, NodeFeatures},
    gang,
    ids::{ClusterId, PodKey},
    placement::{self, RecordedPlacement, TravelFacts},
    pod::{PodFacts, PodSpecFacts, Wants},
    ports::{HostPort, Protocol},
    quantity::Quantity,
    requests::{ContainerRequests, PodRequests},
    resources::ResourceList,
    taints::TolerationFacts,
    time::Timestamp,
    volumes::{PodVolume, PodVolumes},
};

/// Who schedules a pod that names nobody.
const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// What is wrong with an object.
type Wrong = Cow<'static, str>;

/// What scheduling reads of a Pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    pub(super) metadata: MetaWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    spec: SpecWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    status: PodStatusWire<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(clippy::struct_excessive_bools)] // a set of independent fields
struct SpecWire<'a> {
    #[serde(borrow)]
    node_name: Text<'a>,
    #[serde(borrow)]
    scheduler_name: Text<'a>,
    #[serde(deserialize_with = "or_default")]
    priority: i32,
    #[serde(borrow)]
    preemption_policy: Text<'a>,
    #[serde(borrow)]
    node_selector: Pairs<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    affinity: AffinityWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    tolerations: Vec<TolerationWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    scheduling_gates: Vec<NameWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    containers: Vec<ContainerWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    init_containers: Vec<ContainerWire<'a>>,
    #[serde(borrow)]
    overhead: Pairs<'a, QuantityText<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    resources: ResourcesWire<'a>,
    #[serde(deserialize_with = "or_default")]
    host_network: bool,
    #[serde(rename = "hostPID", deserialize_with = "or_default")]
    host_pid: bool,
    #[serde(rename = "hostIPC", deserialize_with = "or_default")]
    host_ipc: bool,
    #[serde(borrow)]
    runtime_class_name: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    volumes: Vec<VolumeWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    topology_spread_constraints: Vec<SpreadWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    resource_claims: Vec<PodClaimWire<'a>>,
    host_users: Option<bool>,
    #[serde(borrow, deserialize_with = "or_default")]
    ephemeral_containers: Vec<MountingWire<'a>>,
    #[serde(borrow)]
    scheduling_group: Option<SchedulingGroupWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SchedulingGroupWire<'a> {
    #[serde(borrow)]
    pod_group_name: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NameWire<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerWire<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    image: Text<'a>,
    #[serde(borrow)]
    restart_policy: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    resources: ResourcesWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    ports: Vec<PortWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    volume_mounts: Vec<MountWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    restart_policy_rules: Vec<RestartRuleWire<'a>>,
}

/// Of an ephemeral container only its mounts are read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MountingWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    volume_mounts: Vec<MountWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MountWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    bind_mount_options: Vec<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RestartRuleWire<'a> {
    #[serde(borrow)]
    action: Text<'a>,
}

impl ContainerWire<'_> {
    fn is_sidecar(&self) -> bool {
        self.restart_policy.as_str() == "Always"
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResourcesWire<'a> {
    #[serde(borrow)]
    requests: Pairs<'a, QuantityText<'a>>,
    #[serde(borrow)]
    limits: Pairs<'a, QuantityText<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PortWire<'a> {
    #[serde(deserialize_with = "or_default")]
    container_port: u16,
    #[serde(deserialize_with = "or_default")]
    host_port: u16,
    #[serde(rename = "hostIP", borrow)]
    host_ip: Text<'a>,
    #[serde(borrow)]
    protocol: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TolerationWire<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow)]
    operator: Text<'a>,
    #[serde(borrow)]
    value: Text<'a>,
    #[serde(borrow)]
    effect: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(clippy::struct_field_names)] // the API's names
struct AffinityWire<'a> {
    #[serde(borrow)]
    node_affinity: Option<NodeAffinityWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    pod_affinity: PodAffinityWire<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    pod_anti_affinity: PodAffinityWire<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeAffinityWire<'a> {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution", borrow)]
    required: Option<SelectorWire<'a>>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution", borrow, deserialize_with = "or_default")]
    preferred: Vec<PreferredWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SelectorWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    node_selector_terms: Vec<TermWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TermWire<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    match_expressions: Vec<RequirementWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    match_fields: Vec<RequirementWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PreferredWire<'a> {
    #[serde(deserialize_with = "or_default")]
    weight: i32,
    #[serde(borrow, deserialize_with = "or_default")]
    preference: TermWire<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatusWire<'a> {
    #[serde(borrow)]
    phase: Text<'a>,
    #[serde(borrow)]
    nominated_node_name: Text<'a>,
    #[serde(borrow)]
    start_time: Text<'a>,
    #[serde(borrow, deserialize_with = "or_default")]
    conditions: Vec<ConditionWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    container_statuses: Vec<ContainerStatusWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    init_container_statuses: Vec<ContainerStatusWire<'a>>,
    #[serde(borrow)]
    allocated_resources: Option<Pairs<'a, QuantityText<'a>>>,
    #[serde(borrow)]
    resources: Option<ResourcesWire<'a>>,
    #[serde(borrow, deserialize_with = "or_default")]
    resource_claim_statuses: Vec<ClaimStatusWire<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatusWire<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    allocated_resources: Option<Pairs<'a, QuantityText<'a>>>,
    #[serde(borrow)]
    resources: Option<ResourcesWire<'a>>,
}

/// What a scheduler leaves in a pod before it deletes it.
fn is_preemption(condition: &ConditionWire<'_>) -> bool {
    condition.status.as_str() == "True" && condition.reason.as_str() == "PreemptionByScheduler"
}

// === facts ===

impl PodWire<'_> {
    pub(super) fn facts(&self) -> Result<PodFacts, Wrong> {
        let (meta, spec, status) = (&self.metadata, &self.spec, &self.status);
        let refused = status.conditions.iter().find(|condition| condition.kind.as_str() == "PodScheduled");
        let refused = refused.filter(|condition| condition.status.as_str() == "False");
        Ok(PodFacts {
            cluster: ClusterId::HOME,
            key: PodKey::new(meta.namespace.as_str(), meta.name.as_str()),
            uid: meta.uid.boxed().into(),
            created: meta.created(),
            deleting: meta.deleting,
            finished: matches!(status.phase.as_str(), "Succeeded" | "Failed"),
            node_name: spec.node_name.some(),
            nominated_node: status.nominated_node_name.some(),
            started: Timestamp::parse_rfc3339(status.start_time.as_str()),
            preempted: status.conditions.iter().find(|condition| condition.kind.as_str() == "DisruptionTarget").is_some_and(is_preemption),
            gates: spec.scheduling_gates.iter().map(|gate| gate.name.boxed()).collect(),
            labels: meta.labels.boxed(),
            unscheduled_condition: refused.map(|condition| (condition.reason.boxed(), condition.message.boxed())),
            recorded: self.recorded().map(Box::new),
            group: self.group().map(Box::new),
            run_attempt: meta.annotations.get(placement::ATTEMPT).and_then(|text| text.parse().ok()).unwrap_or(0),
            spec: PodSpecFacts {
                scheduler_name: spec.scheduler_name.some().unwrap_or_else(|| DEFAULT_SCHEDULER.into()),
                priority: spec.priority,
                never_preempts: spec.preemption_policy.as_str() == "Never",
                requests: self.requests()?.sums(),
                node_selector: spec.node_selector.boxed(),
                node_affinity: spec.affinity.node_affinity.as_ref().map(|affinity| Box::new(affinity.facts())),
                pod_affinity: pod_affinity(&spec.affinity.pod_affinity, &spec.affinity.pod_anti_affinity),
                spread: spec.topology_spread_constraints.iter().map(|constraint| constraint.facts(&meta.labels)).collect(),
                owner: owner(meta),
                tolerations: spec.tolerations.iter().map(TolerationWire::facts).collect(),
                host_ports: spec.host_ports()?,
                images: spec.images(),
                volumes: self.volumes(),
                devices: pod_devices(meta, &spec.resource_claims, &status.resource_claim_statuses),
                features: spec.features(),
                wants: spec.wants(),
                travel: self.travel(),
            },
        })
    }

    fn volumes(&self) -> Option<Arc<PodVolumes>> {
        let meta = &self.metadata;
        let list: Box<[PodVolume]> = self.spec.volumes.iter().filter_map(|volume| volume.mounted(meta.name.as_str())).collect();
        let has_own = list.iter().any(|volume| matches!(volume, PodVolume::Ephemeral(_)));
        let owner = has_own.then(|| (meta.name.boxed(), meta.uid.boxed()));
        (!list.is_empty()).then(|| Arc::new(PodVolumes { list, owner }))
    }

    fn recorded(&self) -> Option<RecordedPlacement> {
        let annotation = |key: &str| self.metadata.annotations.get(key);
        let (cluster, node) = (annotation(placement::CLUSTER)?.into(), annotation(placement::NODE)?.into());
        Some(RecordedPlacement { cluster, node, intent: annotation(placement::INTENT).is_some() })
    }

    fn group(&self) -> Option<gang::Membership> {
        let pod_group = self.spec.scheduling_group.as_ref().map(|group| group.pod_group_name.as_str());
        gang::membership(|key| self.metadata.annotations.find(key), pod_group)
    }

    fn travel(&self) -> Option<Box<TravelFacts>> {
        let (meta, spec) = (&self.metadata, &self.spec);
        let annotation = |key: &str| meta.annotations.get(key);
        let data = annotation(placement::DATA).into_iter().flat_map(|text| text.split(',')).map(str::trim);
        let mut facts = TravelFacts {
            placement: annotation(placement::PLACEMENT).map(Box::from),
            data: data.filter(|name| !name.is_empty()).map(Box::from).collect(),
            runtime_class: spec.runtime_class_name.some(),
            host_namespaces: spec.host_network || spec.host_pid || spec.host_ipc,
            tied_to_node: meta.annotations.is_mirror() || meta.owner_references.iter().any(|owner| owner.kind.as_str() == "DaemonSet"),
            ..TravelFacts::default()
        };
        spec.volumes.iter().for_each(|volume| volume.travel(meta.name.as_str(), &mut facts));
        (facts != TravelFacts::default()).then(|| Box::new(facts))
    }

    fn requests(&self) -> Result<PodRequests, Wrong> {
        let (spec, status) = (&self.spec, &self.status);
        // Statuses count only for a pod on a node; before, they are leftovers of nothing.
        let on_node = !spec.node_name.is_empty();
        let pending = status.conditions.iter().find(|condition| condition.kind.as_str() == "PodResizePending");
        let resize_infeasible = on_node && pending.is_some_and(|condition| condition.reason.as_str() == "Infeasible");
        let requests = |container: &ContainerWire<'_>, statuses: &[ContainerStatusWire<'_>]| {
            let status = statuses.iter().find(|status| on_node && status.name == container.name);
            container.requests(status, resize_infeasible)
        };
        let pod_level_status = match (&status.allocated_resources, &status.resources) {
            (allocated, Some(actuated)) if on_node => {
                let allocated = allocated.as_ref().map(|pairs| resource_list("status.allocatedResources", pairs)).transpose()?;
                Some((allocated.unwrap_or_default(), resource_list("status.resources.requests", &actuated.requests)?))
            }
            _ => None,
        };
        Ok(PodRequests {
            init: spec
                .init_containers
                .iter()
                .map(|container| requests(container, &status.init_container_statuses))
                .collect::<Result<_, _>>()?,
            containers: spec
                .containers
                .iter()
                .map(|container| requests(container, &status.container_statuses))
                .collect::<Result<_, _>>()?,
            overhead: resource_list("spec.overhead", &spec.overhead)?,
            pod_level: spec.resources.requests("spec.resources")?,
            pod_level_status,
            resize_infeasible,
        })
    }
}

impl ContainerWire<'_> {
    fn requests(&self, status: Option<&ContainerStatusWire<'_>>, resize_infeasible: bool) -> Result<ContainerRequests, Wrong> {
        let spec = self.resources.requests(self.name.as_str())?;
        let allocated = status.and_then(|status| status.allocated_resources.as_ref());
        let mut allocated = allocated.map(|pairs| resource_list("allocatedResources", pairs)).transpose()?;
        let actuated = status.and_then(|status| status.resources.as_ref());
        let mut actuated = actuated.map(|actuated| resource_list("status.resources.requests", &actuated.requests)).transpose()?;
        // What is empty is not there: the API server does not store it.
        allocated = allocated.filter(|list| !list.is_empty());
        actuated = actuated.filter(|list| !list.is_empty());
        // The common case: nobody has resized anything. Then the statuses add nothing, and one sum does for all.
        if !resize_infeasible {
            allocated = allocated.filter(|list| !same(list, &spec));
            actuated = actuated.filter(|list| allocated.is_some() || !same(list, &spec));
        }
        Ok(ContainerRequests { spec, allocated, actuated, sidecar: self.is_sidecar() })
    }
}

/// Whether two lists say the same, in whatever order.
fn same(one: &ResourceList, other: &ResourceList) -> bool {
    one == other || (one.iter().count() == other.iter().count() && one.iter().all(|(name, quantity)| other.get(name) == Some(quantity)))
}

impl ResourcesWire<'_> {
    /// Requests; where there is only a limit, the limit.
    fn requests(&self, place: &str) -> Result<ResourceList, Wrong> {
        let mut list = resource_list(place, &self.requests)?;
        for (name, limit) in &self.limits.0 {
            if list.get(name.as_str()).is_none() {
                list.set(name.as_str(), quantity(place, name.as_str(), limit)?);
            }
        }
        Ok(list)
    }
}

/// Reads quantities under their names. The error says which one is bad.
pub(super) fn resource_list(place: &str, pairs: &Pairs<'_, QuantityText<'_>>) -> Result<ResourceList, Wrong> {
    let mut list = ResourceList::default();
    for (name, text) in &pairs.0 {
        list.set(name.as_str(), quantity(place, name.as_str(), text)?);
    }
    Ok(list)
}

pub(super) fn quantity(place: &str, name: &str, text: &QuantityText<'_>) -> Result<Quantity, Wrong> {
    Quantity::parse(text.as_str()).map_err(|error| format!("{place}, {name}: {error}").into())
}

impl SpecWire<'_> {
    /// Host ports of containers and sidecars; an init container is gone before others start.
    fn host_ports(&self) -> Result<Vec<HostPort>, Wrong> {
        let sidecars = self.init_containers.iter().filter(|container| container.is_sidecar());
        let ports = self.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
        let mut wanted = Vec::new();
        for port in ports {
            let number = if port.host_port == 0 && self.host_network { port.container_port } else { port.host_port };
            if number == 0 {
                continue;
            }
            let Some(protocol) = Protocol::parse(port.protocol.as_str()) else {
                return Err(format!("protocol {:?} of host port {number} is unknown", port.protocol.as_str()).into());
            };
            wanted.push(HostPort::new(port.host_ip.as_str(), protocol, number));
        }
        Ok(wanted)
    }

    fn images(&self) -> Vec<Box<str>> {
        let containers = self.init_containers.iter().chain(&self.containers).map(|container| &container.image);
        let volumes = self.volumes.iter().filter_map(VolumeWire::image);
        containers.chain(volumes).map(Text::boxed).collect()
    }

    fn features(&self) -> NodeFeatures {
        let mut containers = self.init_containers.iter().chain(&self.containers);
        let restarts_all = containers.clone().flat_map(|container| &container.restart_policy_rules);
        let restarts_all = restarts_all.into_iter().any(|rule| rule.action.as_str() == "RestartAllContainers");
        let has_options = |mounts: &[MountWire<'_>]| mounts.iter().any(|mount| !mount.bind_mount_options.is_empty());
        let has_options = containers.any(|container| has_options(&container.volume_mounts))
            || self.ephemeral_containers.iter().any(|container| has_options(&container.volume_mounts));
        NodeFeatures::default()
            .with(features::RESTART_ALL, restarts_all)
            .with(features::USER_NAMESPACES_HOST_NETWORK, self.host_network && self.host_users == Some(false))
            .with(features::BIND_MOUNT_OPTIONS, has_options)
    }

    fn wants(&self) -> Wants {
        Wants { resource_claims: !self.resource_claims.is_empty(), pod_group: self.scheduling_group.is_some() }
    }
}

impl TolerationWire<'_> {
    fn facts(&self) -> TolerationFacts {
        TolerationFacts { key: self.key.boxed(), operator: self.operator.boxed(), value: self.value.boxed(), effect: self.effect.boxed() }
    }
}

impl NodeAffinityWire<'_> {
    fn facts(&self) -> NodeAffinity {
        let preferred = |term: &PreferredWire<'_>| PreferredTerm { weight: term.weight, term: term.preference.facts() };
        NodeAffinity {
            required: self.required.as_ref().map(SelectorWire::facts),
            preferred: self.preferred.iter().map(preferred).collect(),
        }
    }
}

impl SelectorWire<'_> {
    pub(super) fn facts(&self) -> NodeSelector {
        NodeSelector { terms: self.node_selector_terms.iter().map(TermWire::facts).collect() }
    }
}

impl TermWire<'_> {
    fn facts(&self) -> NodeSelectorTerm {
        NodeSelectorTerm {
            match_expressions: self.match_expressions.iter().map(RequirementWire::facts).collect(),
            match_fields: self.match_fields.iter().map(RequirementWire::facts).collect(),
        }
    }
}

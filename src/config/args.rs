//! Arguments of in-tree plugins. In: `pluginConfig` as written. Out: typed arguments with upstream's defaults, or findings in upstream's words.
//!
//! Source: kube-scheduler v1.37.1 `validation_pluginargs.go` and the `SetDefaults_*Args` functions. The rules on node affinity are in `added_affinity.rs`.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::path::Path;
use super::report::Report;
use super::wire::{self, PluginConfig};
use super::wire_args::{self as written, ResourceSpec, UtilizationShapePoint};
use super::{added_affinity, duration, names, plugins, schema};
use crate::model::time::DurationMs;
use crate::scheduler::profile as spec;
use crate::scheduler::registry::{REMOVED, Registry};

/// Highest weight of a resource.
const RESOURCE_WEIGHT_MAX: i64 = 100;
/// Highest score of a shape, as upstream's `MaxCustomPriorityScore`.
const SHAPE_SCORE_MAX: i32 = 10;

/// Checks and completes the arguments of one profile. `path` is that of `pluginConfig`.
pub fn resolve(configs: &[PluginConfig], path: &Path, registry: &Registry, report: &mut Report) -> spec::PluginArgs {
    let mut args = spec::PluginArgs::default();
    for (i, config) in configs.iter().enumerate() {
        let path = path.index(i);
        let name = config.name.as_str();
        if configs[..i].iter().any(|other| other.name == name) {
            report.duplicate(&path.field("name"), name).help("give all arguments of a plugin in one entry");
        } else if name.is_empty() {
            report.required(&path.field("name"), "").help("name the plugin");
        } else if REMOVED.contains(&name) {
            plugins::removed(name, &path.field("name"), report);
        } else {
            one(config, &path, registry, report, &mut args);
        }
    }
    args
}

fn one(config: &PluginConfig, path: &Path, registry: &Registry, report: &mut Report, args: &mut spec::PluginArgs) {
    let at = path.field("args");
    let json = &config.args;
    if schema::ARGS.iter().any(|(name, _)| *name == config.name) {
        type_meta(&config.name, json, &at, report);
    }
    match config.name.as_str() {
        "NodeResourcesFit" => args.node_resources_fit = node_resources_fit(&typed(json, &at, report), &at, report),
        "NodeResourcesBalancedAllocation" => {
            args.node_resources_balanced_allocation = balanced_allocation(&typed(json, &at, report), &at, report);
        }
        "NodeAffinity" => args.node_affinity.added_affinity = added_affinity::resolve(typed(json, &at, report), &at, report),
        "InterPodAffinity" => args.inter_pod_affinity = inter_pod_affinity(&typed(json, &at, report), &at, report),
        "PodTopologySpread" => args.pod_topology_spread = topology_spread(&typed(json, &at, report), &at, report),
        "VolumeBinding" => args.volume_binding = volume_binding(&typed(json, &at, report), &at, report),
        "DefaultPreemption" => args.default_preemption = default_preemption(&typed(json, &at, report), &at, report),
        "DynamicResources" => args.dynamic_resources = dynamic_resources(&typed(json, &at, report), &at, report),
        name => {
            if registry.find(name).is_none() {
                let names: Vec<_> = registry.iter().map(|info| info.name).collect();
                let help = super::shape::suggestion(name, "the plugins are", names.into_iter());
                report.warning(&path.field("name"), format!("arguments for a plugin {name:?} that does not exist")).help(help);
            }
            args.out_of_tree.insert(name.to_owned(), json.clone());
        }
    }
}

/// The shape was checked before, so this finds nothing new; should it, it says so rather than dropping arguments.
fn typed<T: DeserializeOwned + Default>(json: &Json, path: &Path, report: &mut Report) -> T {
    if json.is_null() {
        return T::default();
    }
    serde_json::from_value(json.clone()).unwrap_or_else(|error| {
        report.error(path, format!("not the arguments of this plugin: {error}"));
        T::default()
    })
}

/// Arguments may say what kind they are, but then the right one.
fn type_meta(plugin: &str, json: &Json, path: &Path, report: &mut Report) {
    let kind = format!("{plugin}Args");
    if let Some(given) = json["kind"].as_str().filter(|given| *given != kind) {
        let message = format!("args for plugin {plugin} were not of type {kind}.kubescheduler.config.k8s.io, got {given}");
        report.error(&path.field("kind"), message).help(format!("write {kind}, or leave kind and apiVersion away"));
    }
    if let Some(given) = json["apiVersion"].as_str().filter(|given| *given != wire::API_VERSION) {
        let message = format!("no kind {kind:?} is registered for version {given:?}");
        report.error(&path.field("apiVersion"), message).help(format!("write {}, or leave kind and apiVersion away", wire::API_VERSION));
    }
}

fn node_resources_fit(args: &written::NodeResourcesFitArgs, path: &Path, report: &mut Report) -> spec::NodeResourcesFitArgs {
    for (i, name) in args.ignored_resources.iter().enumerate() {
        for wrong in names::qualified_name(name) {
            report.invalid_text(&path.field("ignoredResources").index(i), name, &wrong);
        }
    }
    for (i, group) in args.ignored_resource_groups.iter().enumerate() {
        let path = path.field("ignoredResourceGroups").index(i);
        if group.contains('/') {
            report.invalid_text(&path, group, "resource group name can't contain '/'").help("write only the part before the slash");
        } else {
            for wrong in names::qualified_name(group) {
                report.invalid_text(&path, group, &wrong);
            }
        }
    }
    let mut fit = spec::NodeResourcesFitArgs {
        ignored_resources: args.ignored_resources.clone(),
        ignored_resource_groups: args.ignored_resource_groups.clone(),
        ..spec::NodeResourcesFitArgs::default()
    };
    if let Some(strategy) = &args.scoring_strategy {
        let path = path.field("scoringStrategy");
        fit.strategy = scoring_strategy(strategy, &path, report);
        let path = path.field("resources");
        fit.resources = resources(&strategy.resources, &path, report);
        for (i, resource) in repeated(&strategy.resources) {
            let message = format!("{} is named before, so it counts twice", resource.name);
            report.warning(&path.index(i).field("name"), message).help("name it once with the sum of the weights");
        }
    }
    fit
}

fn scoring_strategy(strategy: &written::ScoringStrategy, path: &Path, report: &mut Report) -> spec::ScoringStrategy {
    let ratio_path = path.field("requestedToCapacityRatio");
    let ratio = strategy.requested_to_capacity_ratio.as_ref();
    match (strategy.kind.as_str(), ratio) {
        ("RequestedToCapacityRatio", Some(ratio)) => {
            spec::ScoringStrategy::RequestedToCapacityRatio(shape(&ratio.shape, &ratio_path.field("shape"), report))
        }
        ("RequestedToCapacityRatio", None) => {
            let help = "give a shape of at least one point: {utilization: 0..100, score: 0..10}";
            report.required(&ratio_path, "must be specified when type is RequestedToCapacityRatio").help(help);
            spec::ScoringStrategy::LeastAllocated
        }
        (kind, ratio) => {
            if kind.is_empty() {
                let supported = ["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"];
                report.unsupported(&path.field("type"), kind, &supported);
            } else if ratio.is_some() {
                let help = format!("remove it, or write type: RequestedToCapacityRatio instead of {kind}");
                report.forbidden(&ratio_path, "must be nil when type is not RequestedToCapacityRatio").help(help);
            }
            if kind == "MostAllocated" { spec::ScoringStrategy::MostAllocated } else { spec::ScoringStrategy::LeastAllocated }
        }
    }
}

/// Resources that an earlier entry names already, with their index.
fn repeated(resources: &[ResourceSpec]) -> impl Iterator<Item = (usize, &ResourceSpec)> {
    let before = |i: usize, name: &str| resources[..i].iter().any(|other| other.name == name);
    resources.iter().enumerate().filter(move |(i, resource)| !resource.name.is_empty() && before(*i, &resource.name))
}

/// None at all: cpu and memory. A weight of 0 counts as 1.
fn resources(written: &[ResourceSpec], path: &Path, report: &mut Report) -> Vec<spec::ResourceWeight> {
    if written.is_empty() {
        return spec::ResourceWeight::cpu_and_memory();
    }
    let mut resolved = Vec::with_capacity(written.len());
    for (i, resource) in written.iter().enumerate() {
        let path = path.index(i);
        if resource.name.is_empty() {
            report.required(&path.field("name"), "").help("name a resource, such as cpu or nvidia.com/gpu");
        }
        let weight = resource.weight.unwrap_or(0);
        if !(0..=RESOURCE_WEIGHT_MAX).contains(&weight) {
            let detail = format!("resource weight of {} not in valid range (0, 100]", resource.name);
            report.invalid(&path.field("weight"), weight, &detail);
        }
        resolved.push(spec::ResourceWeight { name: resource.name.clone(), weight: u32::try_from(weight).unwrap_or(1).max(1) });
    }
    resolved
}

fn shape(points: &[UtilizationShapePoint], path: &Path, report: &mut Report) -> Vec<spec::ShapePoint> {
    if points.is_empty() {
        report.required(path, "at least one point must be specified").help("a point is {utilization: 0..100, score: 0..10}");
    }
    if let Some(i) = (1..points.len()).find(|i| points[i - 1].utilization >= points[*i].utilization) {
        let detail = "values must be sorted in increasing order";
        let help = format!("the point before has {}", points[i - 1].utilization);
        report.invalid(&path.index(i).field("utilization"), points[i].utilization, detail).help(help);
    }
    for (i, point) in points.iter().enumerate() {
        if !(0..=100).contains(&point.utilization) {
            report.invalid(&path.index(i).field("utilization"), point.utilization, "not in valid range [0, 100]");
        }
        if !(0..=SHAPE_SCORE_MAX).contains(&point.score) {
            let detail = format!("not in valid range [0, {SHAPE_SCORE_MAX}]");
            report.invalid(&path.index(i).field("score"), point.score, &detail);
        }
    }
    let small = |number: i32| u8::try_from(number).unwrap_or(0);
    points.iter().map(|point| spec::ShapePoint { utilization: small(point.utilization), score: small(point.score) }).collect()
}

fn balanced_allocation(
    args: &written::NodeResourcesBalancedAllocationArgs,
    path: &Path,
    report: &mut Report,
) -> spec::NodeResourcesBalancedAllocationArgs {
    let path = path.field("resources");
    for (i, resource) in args.resources.iter().enumerate() {
        if let Some(weight) = resource.weight.filter(|weight| !(0..=1).contains(weight)) {
            report.invalid(&path.index(i).field("weight"), weight, "must be 1").help("leave it away: balance has no weights");
        }
    }
    for (i, resource) in repeated(&args.resources) {
        report.duplicate(&path.index(i).field("name"), &resource.name).help("name each resource once");
    }
    // The rule on weights above is the narrower one; said once is enough.
    let unweighted: Vec<_> = args.resources.iter().map(|resource| ResourceSpec { weight: None, ..resource.clone() }).collect();
    spec::NodeResourcesBalancedAllocationArgs { resources: resources(&unweighted, &path, report) }
}

fn inter_pod_affinity(args: &written::InterPodAffinityArgs, path: &Path, report: &mut Report) -> spec::InterPodAffinityArgs {
    let default = spec::InterPodAffinityArgs::default();
    let weight = args.hard_pod_affinity_weight;
    if let Some(weight) = weight.filter(|weight| !(0..=100).contains(weight)) {
        report.invalid(&path.field("hardPodAffinityWeight"), weight, "not in valid range [0, 100]");
    }
    spec::InterPodAffinityArgs {
        hard_pod_affinity_weight: weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(default.hard_pod_affinity_weight),
        ignore_preferred_terms_of_existing_pods: args.ignore_preferred_terms_of_existing_pods.unwrap_or(false),
    }
}

fn topology_spread(args: &written::PodTopologySpreadArgs, path: &Path, report: &mut Report) -> spec::PodTopologySpreadArgs {
    let constraints_path = path.field("defaultConstraints");
    let constraints: Vec<_> = (args.default_constraints.iter().enumerate())
        .map(|(i, constraint)| default_constraint(constraint, &args.default_constraints[..i], &constraints_path.index(i), report))
        .collect();
    if args.defaulting_type.as_deref() == Some("List") {
        return spec::PodTopologySpreadArgs::List(constraints);
    }
    if !constraints.is_empty() {
        let path = if args.defaulting_type.is_some() { path.field("defaultingType") } else { constraints_path };
        report.invalid_text(&path, "System", "when .defaultConstraints are not empty").help("write defaultingType: List");
    }
    spec::PodTopologySpreadArgs::System
}

fn default_constraint(
    constraint: &written::TopologySpreadConstraint,
    before: &[written::TopologySpreadConstraint],
    path: &Path,
    report: &mut Report,
) -> spec::DefaultConstraint {
    let (key, action) = (constraint.topology_key.as_str(), constraint.when_unsatisfiable.as_str());
    if constraint.max_skew <= 0 {
        report.invalid(&path.field("maxSkew"), constraint.max_skew, "not in valid range (0, inf)");
    }
    if key.is_empty() {
        report.required(&path.field("topologyKey"), "can not be empty").help("name a node label, such as topology.kubernetes.io/zone");
    } else {
        for wrong in names::qualified_name(key) {
            report.invalid_text(&path.field("topologyKey"), key, &wrong);
        }
    }
    match action {
        "DoNotSchedule" | "ScheduleAnyway" => {}
        "" => report.required(&path.field("whenUnsatisfiable"), "can not be empty").help("write DoNotSchedule or ScheduleAnyway"),
        other => report.unsupported(&path.field("whenUnsatisfiable"), other, &["DoNotSchedule", "ScheduleAnyway"]),
    }
    if constraint.label_selector.is_some() {
        let detail = "constraint must not define a selector, as they deduced for each pod";
        report.forbidden(&path.field("labelSelector"), detail).help("remove it");
    }
    if before.iter().any(|other| other.topology_key == key && other.when_unsatisfiable == action) {
        report.duplicate(path, &format!("{{{key}, {action}}}")).help("give each topologyKey once for each whenUnsatisfiable");
    }
    if let Some(domains) = constraint.min_domains.filter(|domains| *domains <= 0) {
        report.invalid(&path.field("minDomains"), domains, "must be greater than 0");
    }
    spec::DefaultConstraint {
        max_skew: u32::try_from(constraint.max_skew).unwrap_or(1).max(1),
        topology_key: key.to_owned(),
        hard: action == "DoNotSchedule",
        min_domains: constraint.min_domains.and_then(|domains| u32::try_from(domains).ok()),
        honor_node_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_node_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        match_label_keys: constraint.match_label_keys.clone(),
    }
}

fn volume_binding(args: &written::VolumeBindingArgs, path: &Path, report: &mut Report) -> spec::VolumeBindingArgs {
    let mut binding = spec::VolumeBindingArgs::default();
    if let Some(seconds) = args.bind_timeout_seconds {
        if seconds < 0 {
            let detail = "invalid BindTimeoutSeconds, should not be a negative value";
            report.invalid(&path.field("bindTimeoutSeconds"), seconds, detail).help("0 means no waiting");
        }
        binding.bind_timeout = DurationMs(seconds.unsigned_abs().saturating_mul(1000));
    }
    if !args.shape.is_empty() {
        binding.shape = shape(&args.shape, &path.field("shape"), report);
    }
    binding
}

fn default_preemption(args: &written::DefaultPreemptionArgs, path: &Path, report: &mut Report) -> spec::DefaultPreemptionArgs {
    let default = spec::DefaultPreemptionArgs::default();
    let (percentage_path, absolute_path) = (path.field("minCandidateNodesPercentage"), path.field("minCandidateNodesAbsolute"));
    let (percentage, absolute) = (args.min_candidate_nodes_percentage, args.min_candidate_nodes_absolute);
    if let Some(percentage) = percentage.filter(|percentage| !(0..=100).contains(percentage)) {
        report.invalid(&percentage_path, percentage, "not in valid range [0, 100]");
    }
    if let Some(absolute) = absolute.filter(|absolute| *absolute < 0) {
        report.invalid(&absolute_path, absolute, "not in valid range [0, inf)");
    }
    if percentage == Some(0) && absolute == Some(0) {
        let help = "raise one of the two: no node would be tried";
        report.invalid(&percentage_path, 0, "cannot be zero at the same time as minCandidateNodesAbsolute").help(help);
        report.invalid(&absolute_path, 0, "cannot be zero at the same time as minCandidateNodesPercentage").help(help);
    }
    let or = |given: Option<i32>, default: u32| given.and_then(|given| u32::try_from(given).ok()).unwrap_or(default);
    spec::DefaultPreemptionArgs {
        min_candidate_nodes_percentage: or(percentage, default.min_candidate_nodes_percentage),
        min_candidate_nodes_absolute: or(absolute, default.min_candidate_nodes_absolute),
    }
}

fn dynamic_resources(args: &written::DynamicResourcesArgs, path: &Path, report: &mut Report) -> spec::DynamicResourcesArgs {
    let mut resources = spec::DynamicResourcesArgs::default();
    if let Some(text) = &args.filter_timeout {
        match duration::parse(text) {
            Some(timeout) => resources.filter_timeout = timeout,
            None => report.invalid_text(&path.field("filterTimeout"), text, "must be zero or positive").help("0s means no limit"),
        }
    }
    if let Some(text) = &args.binding_timeout {
        match duration::parse(text).filter(|timeout| *timeout >= DurationMs::from_secs(1)) {
            Some(timeout) => resources.binding_timeout = timeout,
            None => report.invalid_text(&path.field("bindingTimeout"), text, "must be at least 1 second").help("the default is 10m"),
        }
    }
    resources
}

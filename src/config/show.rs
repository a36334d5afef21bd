//! A resolved configuration written out. In: a `Configuration`. Out: both documents with every default and every list, a valid file again.
//!
//! Lists are said to the last plugin: `multiPoint` disables everything, each point enables what runs there, in order. kube-scheduler reads the first
//! document the same way.

use serde_json::Value as Json;

use super::resolved::{Configuration, Extender};
use super::wire::{self, Plugin, PluginConfig, PluginSet, Plugins};
use super::wire_args as written;
use super::{defaults, duration, merge, own, resolve_federation, resolve_tasks};
use crate::model::affinity;
use crate::model::time::DurationMs;
use crate::scheduler::profile::{self as spec, PluginArgs, ProfileSpec, ScoringStrategy, TieBreak};
use crate::scheduler::registry::ExtensionPoint;

/// The first document.
pub fn kube_scheduler(configuration: &Configuration) -> wire::KubeSchedulerConfiguration {
    let election = &configuration.leader_election;
    let connection = &configuration.client_connection;
    let text = |text: &str| Some(text.to_owned());
    let seconds = |span: DurationMs| i64::try_from(span.0 / 1000).ok();
    wire::KubeSchedulerConfiguration {
        api_version: wire::API_VERSION.to_owned(),
        kind: wire::KIND.to_owned(),
        parallelism: int(configuration.parallelism),
        leader_election: Some(wire::LeaderElection {
            leader_elect: Some(election.leader_elect),
            lease_duration: span(election.lease_duration),
            renew_deadline: span(election.renew_deadline),
            retry_period: span(election.retry_period),
            resource_lock: text(defaults::RESOURCE_LOCK),
            resource_name: text(&election.resource_name),
            resource_namespace: text(&election.resource_namespace),
        }),
        client_connection: Some(wire::ClientConnection {
            kubeconfig: text(connection.kubeconfig.as_deref().unwrap_or_default()),
            accept_content_types: text(&connection.accept_content_types),
            content_type: text(&connection.content_type),
            qps: Some(connection.qps.unwrap_or(-1.0)),
            burst: int(connection.burst),
        }),
        enable_profiling: Some(configuration.enable_profiling),
        enable_contention_profiling: Some(configuration.enable_contention_profiling),
        percentage_of_nodes_to_score: Some(configuration.percentage_of_nodes_to_score.into()),
        pod_initial_backoff_seconds: seconds(configuration.backoff.initial),
        pod_max_backoff_seconds: seconds(configuration.backoff.max),
        profiles: configuration.profiles.iter().map(profile).collect(),
        extenders: configuration.extenders.iter().map(extender).collect(),
        delay_cache_until_active: Some(configuration.delay_cache_until_active),
    }
}

/// The second document.
pub fn isobar(configuration: &Configuration) -> own::IsobarConfiguration {
    let settings = &configuration.isobar;
    let tie_break = |profile: &ProfileSpec| match profile.tie_break {
        TieBreak::Random => "Random".to_owned(),
        TieBreak::StableRank => "StableRank".to_owned(),
        TieBreak::First => "First".to_owned(),
    };
    let profiles = configuration.profiles.iter().map(|profile| own::OwnProfile {
        scheduler_name: profile.scheduler_name.clone(),
        tie_break: Some(tie_break(profile)),
        seed: profile.seed,
    });
    own::IsobarConfiguration {
        api_version: own::API_VERSION.to_owned(),
        kind: own::KIND.to_owned(),
        profiles: profiles.collect(),
        limits: Some(own::Limits {
            binds_in_flight_max: Some(settings.limits.binds_in_flight_max),
            bind_timeout: span(settings.limits.bind_timeout),
            events_per_second: Some(settings.limits.events_per_second),
            view_bytes_max: Some(settings.limits.view_bytes_max),
            unschedulable_pod_stay_max: span(settings.limits.unschedulable_pod_stay_max),
        }),
        serving: Some(own::Serving {
            bind_address: Some(settings.serving.bind_address.to_string()),
            secure_port: Some(settings.serving.secure_port.unwrap_or(0)),
            always_allow_paths: Some(settings.serving.always_allow_paths.clone()),
            anonymous: Some(settings.serving.anonymous),
        }),
        federation: Some(resolve_federation::written(&settings.federation)),
        tasks: Some(resolve_tasks::written(&settings.tasks)),
        config_reload: Some(own::ConfigReload { poll_interval: span(settings.config_poll_interval.unwrap_or(DurationMs(0))) }),
    }
}

/// Both documents as YAML.
pub fn yaml(configuration: &Configuration) -> Result<String, serde_saphyr::ser::Error> {
    let first = serde_saphyr::to_string(&kube_scheduler(configuration))?;
    let second = serde_saphyr::to_string(&isobar(configuration))?;
    Ok(format!("{}\n---\n{}\n", first.trim_end(), second.trim_end()))
}

/// Both documents as a JSON `List`.
pub fn json(configuration: &Configuration) -> Result<Json, serde_json::Error> {
    let items = [serde_json::to_value(kube_scheduler(configuration))?, serde_json::to_value(isobar(configuration))?];
    Ok(serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items }))
}

#[allow(clippy::unnecessary_wraps)] // every field that takes it may be left out
fn span(duration: DurationMs) -> Option<String> {
    Some(duration::format(duration))
}

fn int(number: u32) -> Option<i32> {
    i32::try_from(number).ok()
}

fn profile(profile: &ProfileSpec) -> wire::Profile {
    let name = |name: &str| Plugin { name: name.to_owned(), weight: None };
    let mut plugins = Plugins::default();
    plugins.multi_point.disabled.push(name(merge::ALL));
    for point in ExtensionPoint::ALL {
        let enabled: Vec<Plugin> = match point {
            ExtensionPoint::Score => weighted(&profile.plugins.score),
            ExtensionPoint::PlacementScore => weighted(&profile.plugins.placement_score),
            point => profile.plugins.names(point).into_iter().map(name).collect(),
        };
        *plugins.at_mut(point) = PluginSet { enabled, disabled: Vec::new() };
    }
    wire::Profile {
        scheduler_name: Some(profile.scheduler_name.clone()),
        percentage_of_nodes_to_score: Some(profile.percentage_of_nodes_to_score.unwrap_or(0).into()),
        plugins: Some(plugins),
        plugin_config: arguments(&profile.args),
    }
}

fn weighted(plugins: &[spec::WeightedPlugin]) -> Vec<Plugin> {
    plugins.iter().map(|plugin| Plugin { name: plugin.name.to_owned(), weight: int(plugin.weight) }).collect()
}

/// In the order of names, as upstream writes them; arguments of other plugins follow.
fn arguments(args: &PluginArgs) -> Vec<PluginConfig> {
    let config = |name: &str, args: Json| PluginConfig { name: name.to_owned(), args };
    let mut configs = vec![
        config("DefaultPreemption", json_of(&default_preemption(args.default_preemption))),
        config("DynamicResources", json_of(&dynamic_resources(args.dynamic_resources))),
        config("InterPodAffinity", json_of(&inter_pod_affinity(args.inter_pod_affinity))),
        config("NodeAffinity", json_of(&node_affinity(&args.node_affinity))),
        config("NodeResourcesBalancedAllocation", json_of(&balanced_allocation(&args.node_resources_balanced_allocation))),
        config("NodeResourcesFit", json_of(&node_resources_fit(&args.node_resources_fit))),
        config("PodTopologySpread", json_of(&topology_spread(&args.pod_topology_spread))),
        config("VolumeBinding", json_of(&volume_binding(&args.volume_binding))),
    ];
    configs.extend(args.out_of_tree.iter().map(|(name, args)| config(name, args.clone())));
    configs
}

/// Plain structs of strings and numbers always become JSON.
fn json_of(args: &impl serde::Serialize) -> Json {
    serde_json::to_value(args).unwrap_or_default()
}

fn default_preemption(args: spec::DefaultPreemptionArgs) -> written::DefaultPreemptionArgs {
    written::DefaultPreemptionArgs {
        min_candidate_nodes_percentage: int(args.min_candidate_nodes_percentage),
        min_candidate_nodes_absolute: int(args.min_candidate_nodes_absolute),
        ..Default::default()
    }
}

fn dynamic_resources(args: spec::DynamicResourcesArgs) -> written::DynamicResourcesArgs {
    written::DynamicResourcesArgs {
        filter_timeout: span(args.filter_timeout),
        binding_timeout: span(args.binding_timeout),
        ..Default::default()
    }
}

fn inter_pod_affinity(args: spec::InterPodAffinityArgs) -> written::InterPodAffinityArgs {
    written::InterPodAffinityArgs {
        hard_pod_affinity_weight: int(args.hard_pod_affinity_weight),
        ignore_preferred_terms_of_existing_pods: Some(args.ignore_preferred_terms_of_existing_pods),
        ..Default::default()
    }
}

fn resources(resources: &[spec::ResourceWeight]) -> Vec<written::ResourceSpec> {
    resources.iter().map(|resource| written::ResourceSpec { name: resource.name.clone(), weight: Some(resource.weight.into()) }).collect()
}

fn shape(points: &[spec::ShapePoint]) -> Vec<written::UtilizationShapePoint> {
    let point =
        |point: &spec::ShapePoint| written::UtilizationShapePoint { utilization: point.utilization.into(), score: point.score.into() };
    points.iter().map(point).collect()
}

fn balanced_allocation(args: &spec::NodeResourcesBalancedAllocationArgs) -> written::NodeResourcesBalancedAllocationArgs {
    written::NodeResourcesBalancedAllocationArgs { resources: resources(&args.resources), ..Default::default() }
}

fn node_resources_fit(args: &spec::NodeResourcesFitArgs) -> written::NodeResourcesFitArgs {
    let (kind, ratio) = match &args.strategy {
        ScoringStrategy::LeastAllocated => ("LeastAllocated", None),
        ScoringStrategy::MostAllocated => ("MostAllocated", None),
        ScoringStrategy::RequestedToCapacityRatio(points) => ("RequestedToCapacityRatio", Some(shape(points))),
    };
    written::NodeResourcesFitArgs {
        ignored_resources: args.ignored_resources.clone(),
        ignored_resource_groups: args.ignored_resource_groups.clone(),
        scoring_strategy: Some(written::ScoringStrategy {
            kind: kind.to_owned(),
            resources: resources(&args.resources),
            requested_to_capacity_ratio: ratio.map(|shape| written::RequestedToCapacityRatio { shape }),
        }),
        ..Default::default()
    }
}

fn topology_spread(args: &spec::PodTopologySpreadArgs) -> written::PodTopologySpreadArgs {
    let policy = |honor: bool| Some(if honor { "Honor" } else { "Ignore" }.to_owned());
    let constraint = |constraint: &spec::DefaultConstraint| written::TopologySpreadConstraint {
        max_skew: int(constraint.max_skew).unwrap_or(i32::MAX),
        topology_key: constraint.topology_key.clone(),
        when_unsatisfiable: if constraint.hard { "DoNotSchedule" } else { "ScheduleAnyway" }.to_owned(),
        label_selector: None,
        min_domains: constraint.min_domains.and_then(int),
        node_affinity_policy: policy(constraint.honor_node_affinity),
        node_taints_policy: policy(constraint.honor_node_taints),
        match_label_keys: constraint.match_label_keys.clone(),
    };
    let (kind, constraints) = match args {
        spec::PodTopologySpreadArgs::System => ("System", Vec::new()),
        spec::PodTopologySpreadArgs::List(list) => ("List", list.iter().map(constraint).collect()),
    };
    written::PodTopologySpreadArgs { default_constraints: constraints, defaulting_type: Some(kind.to_owned()), ..Default::default() }
}

fn volume_binding(args: &spec::VolumeBindingArgs) -> written::VolumeBindingArgs {
    let seconds = i64::try_from(args.bind_timeout.0 / 1000).unwrap_or(i64::MAX);
    written::VolumeBindingArgs { bind_timeout_seconds: Some(seconds), shape: shape(&args.shape), ..Default::default() }
}

fn node_affinity(args: &spec::NodeAffinityArgs) -> written::NodeAffinityArgs {
    let requirement = |requirement: &affinity::NodeSelectorRequirement| written::NodeSelectorRequirement {
        key: requirement.key.to_string(),
        operator: requirement.operator.to_string(),
        values: requirement.values.iter().map(ToString::to_string).collect(),
    };
    let term = |term: &affinity::NodeSelectorTerm| written::NodeSelectorTerm {
        match_expressions: term.match_expressions.iter().map(requirement).collect(),
        match_fields: term.match_fields.iter().map(requirement).collect(),
    };
    let added = args.added_affinity.as_ref().map(|added| written::NodeAffinity {
        required_during_scheduling_ignored_during_execution: (added.required.as_ref())
            .map(|selector| written::NodeSelector { node_selector_terms: selector.terms.iter().map(term).collect() }),
        preferred_during_scheduling_ignored_during_execution: (added.preferred.iter())
            .map(|preferred| written::PreferredSchedulingTerm { weight: preferred.weight, preference: term(&preferred.term) })
            .collect(),
    });
    written::NodeAffinityArgs { added_affinity: added, ..Default::default() }
}

fn extender(extender: &Extender) -> wire::Extender {
    let verb = |verb: &Option<String>| verb.clone().unwrap_or_default();
    wire::Extender {
        url_prefix: extender.url_prefix.clone(),
        filter_verb: verb(&extender.filter_verb),
        preempt_verb: verb(&extender.preempt_verb),
        prioritize_verb: verb(&extender.prioritize_verb),
        weight: extender.weight,
        bind_verb: verb(&extender.bind_verb),
        enable_https: extender.enable_https,
        tls_config: extender.tls.clone(),
        http_timeout: span(extender.http_timeout),
        node_cache_capable: extender.node_cache_capable,
        managed_resources: extender.managed_resources.clone(),
        ignorable: extender.ignorable,
    }
}

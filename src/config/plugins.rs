//! Whether a profile's `plugins` make sense. In: its sets as written. Out: the plugins that run, or findings in the words of upstream's framework.
//!
//! Upstream also refuses weights whose sum, times 100, overflows an `int64`; with weights of 31 bits no list is long enough for that.

use super::merge::{self, ALL};
use super::path::Path;
use super::report::Report;
use super::shape::suggestion;
use super::wire::{Plugin, PluginSet, Plugins};
use crate::scheduler::profile::PluginPoints;
use crate::scheduler::registry::{ExtensionPoint, REMOVED, Registry};

/// Checks the sets of one profile and expands them. `path` is the profile's.
pub fn resolve(profile_name: &str, plugins: &Plugins, path: &Path, registry: &Registry, report: &mut Report) -> PluginPoints {
    let plugins_path = path.field("plugins");
    for point in ExtensionPoint::ALL {
        check_set(plugins.at(point), Some(point), &plugins_path.field(point.field()), registry, report);
    }
    check_set(&plugins.multi_point, None, &plugins_path.field("multiPoint"), registry, report);
    let points = merge::expand(plugins, registry);
    // What follows from a name that is wrong already is no news.
    if !report.is_wrong(&plugins_path) {
        check_points(profile_name, &points, &plugins_path, report);
    }
    points
}

fn check_set(set: &PluginSet, point: Option<ExtensionPoint>, path: &Path, registry: &Registry, report: &mut Report) {
    for (i, plugin) in set.enabled.iter().enumerate() {
        let path = path.field("enabled").index(i);
        check_enabled(plugin, point, &path, registry, report);
        let named_before = !plugin.name.is_empty() && set.enabled[..i].iter().any(|other| other.name == plugin.name);
        if named_before {
            let registered = point.map_or_else(|| "multiPoint plugin".to_owned(), |point| format!("{point}Plugin"));
            report.error(&path, format!("plugin {:?} already registered as {registered:?}", plugin.name)).help("name it once");
        }
    }
    for (i, plugin) in set.disabled.iter().enumerate() {
        let path = path.field("disabled").index(i);
        if plugin.name.is_empty() {
            report.required(&path.field("name"), "").help("name the plugin, or \"*\" for all");
        } else if plugin.name != ALL && registry.find(&plugin.name).is_none() && !REMOVED.contains(&plugin.name.as_str()) {
            let names = registry.iter().map(|info| info.name);
            let help = suggestion(&plugin.name, "the plugins are", names.collect::<Vec<_>>().into_iter());
            report.warning(&path.field("name"), format!("there is no plugin {:?} to disable", plugin.name)).help(help);
        }
    }
}

fn check_enabled(plugin: &Plugin, point: Option<ExtensionPoint>, path: &Path, registry: &Registry, report: &mut Report) {
    let name = plugin.name.as_str();
    if name.is_empty() {
        report.required(&path.field("name"), "").help("name the plugin");
        return;
    }
    if REMOVED.contains(&name) {
        removed(name, &path.field("name"), report);
        return;
    }
    let Some(info) = registry.find(name) else {
        let names: Vec<_> = registry.iter().map(|info| info.name).collect();
        let message = format!("plugin {name:?} does not exist");
        report.error(&path.field("name"), message).help(suggestion(name, "the plugins are", names.into_iter()));
        return;
    };
    if let Some(point) = point.filter(|point| !info.implements(*point)) {
        let points: Vec<_> = info.points.iter().map(|point| point.field()).collect();
        let message = format!("plugin {name:?} does not extend {point}Plugin plugin");
        report.error(&path.field("name"), message).help(format!("it can be listed at {} and multiPoint", points.join(", ")));
    }
    match plugin.weight {
        Some(weight) if weight < 0 => {
            report.invalid(&path.field("weight"), weight, "must not be negative").help("disable the plugin's score instead");
        }
        Some(weight) if weight > 0 && point.is_some_and(|point| !point.weighted()) => {
            report
                .warning(&path.field("weight"), "a weight has no effect here")
                .help("weights count at score, placementScore and multiPoint");
        }
        _ => {}
    }
}

/// A plugin that upstream had once.
pub fn removed(name: &str, path: &Path, report: &mut Report) {
    let detail = "was invalid in version \"v1\" (KubeSchedulerConfiguration is version \"kubescheduler.config.k8s.io/v1\")";
    report.invalid_text(path, name, detail).help("remove it: NodeVolumeLimits counts the volumes of all CSI drivers");
}

fn check_points(profile_name: &str, points: &PluginPoints, path: &Path, report: &mut Report) {
    let sorts = points.queue_sort.len();
    if sorts != 1 {
        let message = format!("only one queue sort plugin required for profile with scheduler name {profile_name:?}, but got {sorts}");
        let help = "disable all but one at queueSort; PrioritySort is the default";
        report.error(&path.field("queueSort"), message).help(help);
    }
    if points.bind.is_empty() {
        let message = format!("at least one bind plugin is needed for profile with scheduler name {profile_name:?}");
        report.error(&path.field("bind"), message).help("enable DefaultBinder");
    }
    if points.placement_generate.len() > 1 {
        let message = format!("at most one placement generate plugin is allowed for profile with scheduler name {profile_name:?}");
        report.error(&path.field("placementGenerate"), message).help("disable all but one");
    }
}

/// The queue is one for all profiles, so its order must be, too.
pub fn check_common_queue_sort(profiles: &[(PluginPoints, Option<&serde_json::Value>)], report: &mut Report) {
    let Some(((first, first_args), rest)) = profiles.split_first() else { return };
    for (i, (points, args)) in rest.iter().enumerate() {
        let path = Path::root().field("profiles").index(i + 1);
        if points.queue_sort != first.queue_sort {
            let detail = "must be the same for all profiles";
            let value = format!("[{}]", points.queue_sort.join(" "));
            let help = format!("the first profile has [{}]: pods of all profiles wait in one queue", first.queue_sort.join(" "));
            report.invalid(&path.field("plugins").field("queueSort"), value, detail).help(help);
        } else if args != first_args {
            let message = "queueSort must be the same for all profiles";
            report.error(&path.field("pluginConfig"), message).help("give its plugin the same arguments in every profile");
        }
    }
}

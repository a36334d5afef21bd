//! Extenders. In: as written. Out: checked and complete, in the order in which they are called.
//!
//! Source: kube-scheduler v1.37.1 `validateExtenders` and `buildExtenders`.

use super::path::Path;
use super::report::Report;
use super::{defaults, duration, names, resolved, wire};
use crate::scheduler::profile::ProfileSpec;

/// Checks and completes all extenders; those that are not ignorable come first.
pub fn resolve(written: &[wire::Extender], report: &mut Report) -> Vec<resolved::Extender> {
    let root = Path::root().field("extenders");
    let mut managed: Vec<&str> = Vec::new();
    for (i, extender) in written.iter().enumerate() {
        let path = root.index(i);
        check(extender, &path, report);
        for (j, resource) in extender.managed_resources.iter().enumerate() {
            let path = path.field("managedResources").index(j).field("name");
            check_resource(&resource.name, &managed, &path, report);
            managed.push(&resource.name);
        }
    }
    let binders: Vec<usize> = (0..written.len()).filter(|i| !written[*i].bind_verb.is_empty()).collect();
    if let [_, second, ..] = binders[..] {
        let found = format!("found {} extenders implementing bind", binders.len());
        let help = "remove bindVerb from all but one extender";
        report.invalid_text(&root.index(second).field("bindVerb"), &found, "only one extender can implement bind").help(help);
    }
    let (ignorable, needed): (Vec<_>, Vec<_>) = written.iter().map(complete).partition(|extender| extender.ignorable);
    needed.into_iter().chain(ignorable).collect()
}

fn check(extender: &wire::Extender, path: &Path, report: &mut Report) {
    if extender.url_prefix.is_empty() {
        report.required(&path.field("urlPrefix"), "").help("say where the extender is, such as http://127.0.0.1:8888/scheduler");
    } else if !extender.url_prefix.starts_with("http://") && !extender.url_prefix.starts_with("https://") {
        report
            .invalid_text(&path.field("urlPrefix"), &extender.url_prefix, "must be an http or https URL")
            .help("begin it with http:// or https://");
    }
    if !extender.prioritize_verb.is_empty() && extender.weight <= 0 {
        report.invalid(&path.field("weight"), extender.weight, "must have a positive weight applied to it").help("1 is a good start");
    }
    if let Some(tls) = &extender.tls_config {
        check_tls(tls, &path.field("tlsConfig"), report);
    }
    if let Some(text) = extender.http_timeout.as_ref().filter(|text| duration::parse(text).is_none()) {
        report.invalid_text(&path.field("httpTimeout"), text, "must be zero or positive").help("0s means the default of 5s");
    }
}

/// client-go refuses a client that is told both to check and not to check.
fn check_tls(tls: &wire::ExtenderTls, path: &Path, report: &mut Report) {
    if tls.insecure && !(tls.ca_file.is_empty() && tls.ca_data.is_empty()) {
        let detail = "specifying a root certificates file with the insecure flag is not allowed";
        report.forbidden(&path.field("insecure"), detail).help("remove insecure, or caFile and caData");
    }
}

fn check_resource(name: &str, managed: &[&str], path: &Path, report: &mut Report) {
    let wrong = names::qualified_name(name);
    for wrong in &wrong {
        report.invalid_text(path, name, wrong);
    }
    if wrong.is_empty() && !names::is_extended_resource(name) {
        report
            .invalid_text(path, name, "is an invalid extended resource name")
            .help("an extended resource has a domain, such as example.com/foo");
    }
    if managed.contains(&name) {
        report.invalid_text(path, name, "duplicate extender managed resource name").help("a resource is managed by one extender");
    }
}

fn complete(written: &wire::Extender) -> resolved::Extender {
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let timeout = written.http_timeout.as_ref().and_then(|text| duration::parse(text)).filter(|timeout| timeout.0 > 0);
    resolved::Extender {
        url_prefix: written.url_prefix.clone(),
        filter_verb: some(&written.filter_verb),
        preempt_verb: some(&written.preempt_verb),
        prioritize_verb: some(&written.prioritize_verb),
        bind_verb: some(&written.bind_verb),
        weight: written.weight,
        enable_https: written.enable_https,
        tls: written.tls_config.clone(),
        http_timeout: timeout.unwrap_or(defaults::EXTENDER_TIMEOUT),
        node_cache_capable: written.node_cache_capable,
        managed_resources: written.managed_resources.clone(),
        ignorable: written.ignorable,
    }
}

/// Resources that extenders keep from the scheduler replace the ignored ones of every profile, as upstream does.
pub fn apply_ignored_resources(extenders: &[resolved::Extender], profiles: &mut [ProfileSpec]) {
    let managed = extenders.iter().flat_map(|extender| &extender.managed_resources);
    let ignored: Vec<_> = managed.filter(|resource| resource.ignored_by_scheduler).map(|resource| resource.name.clone()).collect();
    if ignored.is_empty() {
        return;
    }
    for profile in profiles {
        profile.args.node_resources_fit.ignored_resources.clone_from(&ignored);
    }
}

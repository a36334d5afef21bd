//! The manifests agree with the program: permissions, metric names, configuration, ports; and `kubectl kustomize` renders them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use isobar::{
    config::load::{Source, load},
    kubernetes::permissions::{FEDERATION, PERMISSIONS, POD_GROUPS, Permission, REMOTE, Scope, TASKS},
    metrics::table::{Kind, PROCESS_TABLE, TABLE},
    scheduler::registry::Registry,
};
use serde_json::Value;

use super::tools;

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

fn read(path: &str) -> String {
    let path = manifests().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}"))
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// (group, resource, verb), and the names it is limited to.
type Grants = BTreeMap<(String, String, String), Vec<String>>;

fn grants(documents: &[Value], kind: &str) -> Grants {
    let mut grants = Grants::new();
    for rule in documents.iter().filter(|document| document["kind"] == kind).flat_map(|role| role["rules"].as_array().unwrap()) {
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                for verb in strings(&rule["verbs"]) {
                    let key = (group.clone(), resource.clone(), verb);
                    assert!(grants.insert(key.clone(), strings(&rule["resourceNames"])).is_none(), "{key:?} is granted twice");
                }
            }
        }
    }
    grants
}

fn needed(scopes: &[Scope], lease: &str) -> Grants {
    of_list(PERMISSIONS, scopes, lease)
}

/// `named` is the one object that calls with a scope of one object are about.
fn of_list(list: &[Permission], scopes: &[Scope], named: &str) -> Grants {
    let calls = list.iter().filter(|call| scopes.contains(&call.scope));
    let names = |scope| if matches!(scope, Scope::Lease | Scope::Debts) { vec![named.to_owned()] } else { Vec::new() };
    calls.map(|call| ((call.group.into(), call.resource.into(), call.verb.into()), names(call.scope))).collect()
}

#[test]
fn permissions_are_exactly_those_of_the_calls_made() {
    assert_eq!(grants(&documents(&read("base/rbac.yaml")), "ClusterRole"), needed(&[Scope::Cluster], ""));
    for (path, overlay, namespace) in [
        ("base/lease-role.yaml", "base", None),
        ("overlays/replace-kube-scheduler/lease-role.yaml", "overlays/replace-kube-scheduler", Some("kube-system")),
    ] {
        let role = documents(&read(path));
        let election = election(overlay);
        assert_eq!(grants(&role, "Role"), needed(&[Scope::Lease, Scope::LeaseNamespace], &election.0), "{path}");
        assert_eq!(role[0]["metadata"]["namespace"].as_str(), namespace, "{path}");
        assert_eq!(namespace.unwrap_or("isobar-system"), election.1, "{path}");
        assert!(!role[0].to_string().contains('*'), "{path}: no wildcards");
    }
}

#[test]
fn permissions_of_the_federation_are_exactly_those_of_its_calls() {
    let overlay = documents(&read("overlays/federated/rbac.yaml"));
    let mut cluster = grants(&overlay, "ClusterRole");
    // Not a call: whoever approves a request has to be allowed its signer.
    let signer = ("certificates.k8s.io".to_owned(), "signers".to_owned(), "approve".to_owned());
    assert_eq!(cluster.remove(&signer), Some(vec!["kubernetes.io/kubelet-serving".to_owned()]));
    assert_eq!(cluster, of_list(FEDERATION, &[Scope::Cluster], ""));
    let debts = isobar::kubernetes::cluster::debts::NAME;
    assert_eq!(grants(&overlay, "Role"), of_list(FEDERATION, &[Scope::OwnNamespace, Scope::Debts], debts));
    let leases = documents(&read("overlays/federated/node-lease-role.yaml"));
    assert_eq!(grants(&leases, "Role"), of_list(FEDERATION, &[Scope::NodeLeases], ""));
    assert_eq!(leases[0]["metadata"]["namespace"], "kube-node-lease");

    let remote: Vec<Permission> = REMOTE.iter().map(|remote| remote.call).collect();
    let kit = documents(&read("remote-cluster/role.yaml"));
    assert_eq!(grants(&kit, "ClusterRole"), of_list(&remote, &[Scope::Cluster], ""));
    assert_eq!(grants(&kit, "Role"), of_list(&remote, &[Scope::RunNamespace], ""));
    let runs = kit.iter().find(|document| document["kind"] == "Namespace" && document["metadata"]["name"] == "isobar-runs").unwrap();
    assert_eq!(runs["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "baseline");
    assert!(kit.iter().any(|document| document["kind"] == "NetworkPolicy"));
    assert!(!format!("{overlay:?}{kit:?}").contains("\"*\""), "no wildcards");
}

#[test]
fn permissions_of_tasks_are_exactly_those_of_their_calls() {
    let overlay = documents(&read("overlays/tasks/rbac.yaml"));
    assert_eq!(grants(&overlay, "ClusterRole"), of_list(TASKS, &[Scope::Cluster], ""));
    assert!(!format!("{overlay:?}").contains("\"*\""), "no wildcards");
    let sender = documents(&read("overlays/tasks/sender.yaml"));
    assert_eq!(sender[0]["rules"][0]["nonResourceURLs"], serde_json::json!(["/events/radar-in"]));
    election("overlays/tasks");
}

#[test]
fn permissions_of_pod_groups_are_exactly_those_of_their_calls() {
    let overlay = documents(&read("overlays/pod-groups/rbac.yaml"));
    assert_eq!(grants(&overlay, "ClusterRole"), of_list(POD_GROUPS, &[Scope::Cluster], ""));
    election("overlays/pod-groups");
}

/// Name and namespace of the lease in an overlay's configuration, which must be valid.
fn election(overlay: &str) -> (String, String) {
    let text = read(&format!("{overlay}/config.yaml"));
    let source = Source { name: "config.yaml", content: text.as_bytes() };
    let configuration = load(&[source], &Registry::in_tree()).unwrap_or_else(|problems| panic!("{overlay}: {problems}"));
    assert!(configuration.leader_election.leader_elect, "{overlay}: two replicas without election");
    (configuration.leader_election.resource_name, configuration.leader_election.resource_namespace)
}

#[test]
fn in_place_of_kube_scheduler_it_competes_for_the_same_lease() {
    assert_eq!(election("overlays/replace-kube-scheduler"), ("kube-scheduler".into(), "kube-system".into()));
    assert_ne!(election("base").0, "kube-scheduler", "beside it, waiting for its lease would mean never to act");
}

/// In kube-scheduler's place it may be logged in as kube-scheduler was: whatever it calls is granted to that user already.
#[test]
fn the_stock_rights_of_kube_scheduler_are_enough() {
    let roles = documents(include_str!("stock_rights.yaml"));
    let rules: Vec<&Value> = roles.iter().flat_map(|role| role["rules"].as_array().unwrap()).collect();
    let (lease, _) = election("overlays/replace-kube-scheduler");
    let grants_it = |rule: &Value, (group, resource, verb): &(String, String, String), names: &[String]| {
        let has = |field: &str, word: &String| strings(&rule[field]).contains(word);
        let limited_to = strings(&rule["resourceNames"]);
        let named = limited_to.is_empty() || (!names.is_empty() && names.iter().all(|name| limited_to.contains(name)));
        has("apiGroups", group) && has("resources", resource) && has("verbs", verb) && named
    };
    let scopes = [Scope::Cluster, Scope::LeaseNamespace, Scope::Lease];
    for (call, names) in needed(&scopes, &lease) {
        assert!(rules.iter().any(|rule| grants_it(rule, &call, &names)), "{call:?} on {names:?} is not granted");
    }
    let lease_of_ours = ("coordination.k8s.io".into(), "leases".into(), "update".into());
    assert!(!rules.iter().any(|rule| grants_it(rule, &lease_of_ours, &[election("base").0])), "names are looked at");
}

/// Every name that a scrape can show, histograms by their series.
fn series() -> BTreeSet<String> {
    let all = TABLE.iter().copied().chain(PROCESS_TABLE);
    all.flat_map(|spec| {
        let suffixes: &[&str] = if spec.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        suffixes.iter().map(|suffix| format!("{}{suffix}", spec.name))
    })
    .collect()
}

/// Words of an expression that look like metrics of ours: outside strings, with one of our prefixes.
fn metrics_of(expression: &str) -> BTreeSet<String> {
    let without_strings: String = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let words = without_strings.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let prefixes = ["scheduler_", "isobar_", "rest_client_", "leader_election_", "process_"];
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).map(str::to_owned).collect()
}

/// Labels compared or grouped by, which a metric of ours or the scraper must have.
fn labels_of(expression: &str) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for selector in expression.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        labels.extend(selector.split(',').filter_map(|matcher| Some(matcher.split(['=', '!']).next()?.trim().to_owned())));
    }
    for grouping in expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next()) {
        labels.extend(grouping.split(',').map(|label| label.trim().to_owned()));
    }
    labels
}

fn assert_known(expression: &str) {
    let known = series();
    let used = metrics_of(expression);
    assert!(!used.is_empty(), "names no metric of ours: {expression}");
    for name in &used {
        assert!(known.contains(name), "{name} is not in the table, used in: {expression}");
    }
    let of_scraper = ["namespace", "pod", "instance", "job", "le", "hash"].map(str::to_owned);
    let of_metrics = TABLE.iter().filter(|spec| used.iter().any(|name| name.starts_with(spec.name))).flat_map(|spec| spec.labels);
    let labels: BTreeSet<String> = of_scraper.into_iter().chain(of_metrics.map(|label| (*label).to_owned())).collect();
    for label in labels_of(expression) {
        assert!(labels.contains(&label), "no metric has the label {label} in: {expression}");
    }
}

fn alert_groups() -> Value {
    documents(&read("overlays/monitoring/alerts.yaml")).remove(0)["spec"].take()
}

#[test]
fn alerts_name_only_metrics_that_exist() {
    let groups = alert_groups();
    let rules: Vec<&Value> = groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() >= 10);
    for rule in rules {
        assert_known(rule["expr"].as_str().unwrap());
        assert!(rule["annotations"]["description"].is_string() && rule["labels"]["severity"].is_string(), "{rule}");
    }
}

#[test]
fn dashboard_names_only_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(&read("overlays/monitoring/isobar.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter(|panel| panel["type"] != "row").flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(expressions.len() >= 20);
    expressions.into_iter().for_each(assert_known);
    let ids: BTreeSet<i64> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "a panel's id twice");
}

#[test]
fn metrics_in_expressions_are_found() {
    let expression = r#"sum by (le) (rate(scheduler_x_bucket{pod=~"isobar_y",code!="5"}[5m])) / isobar_z"#;
    assert_eq!(metrics_of(expression).into_iter().collect::<Vec<_>>(), ["isobar_z", "scheduler_x_bucket"]);
    assert_eq!(labels_of(expression).into_iter().collect::<Vec<_>>(), ["code", "le", "pod"]);
}

#[test]
fn pods_are_locked_down_and_probed_where_the_server_listens() {
    let deployment = documents(&read("base/deployment.yaml")).remove(0);
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let port = u64::from(isobar::http::DEFAULT_PORT);
    for (value, wanted) in [
        (&deployment["spec"]["replicas"], Value::from(2)),
        (&pod["securityContext"]["runAsNonRoot"], true.into()),
        (&pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault".into()),
        (&container["securityContext"]["allowPrivilegeEscalation"], false.into()),
        (&container["securityContext"]["readOnlyRootFilesystem"], true.into()),
        (&container["securityContext"]["capabilities"]["drop"], serde_json::json!(["ALL"])),
        (&container["ports"][0]["containerPort"], port.into()),
        (&documents(&read("base/service.yaml"))[0]["spec"]["ports"][0]["port"], port.into()),
    ] {
        assert_eq!(value, &wanted);
    }
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &container[probe]["httpGet"];
        assert!(
            ["/livez", "/readyz"].contains(&get["path"].as_str().unwrap()) && get["scheme"] == "HTTPS" && get["port"] == "https",
            "{probe}"
        );
    }
}

#[test]
fn kubectl_renders_every_kustomization() {
    let Some(kubectl) = tools::find("kubectl", "kubectl_renders_every_kustomization") else { return };
    for (directory, lease_roles) in [
        ("base", vec![Some("isobar-system")]),
        ("overlays/second-scheduler", vec![Some("isobar-system")]),
        ("overlays/replace-kube-scheduler", vec![Some("kube-system")]),
        ("overlays/monitoring", vec![]),
        ("overlays/tasks", vec![Some("isobar-system")]),
        ("overlays/federated", vec![Some("isobar-system"), Some("isobar-system"), Some("kube-node-lease")]),
        ("remote-cluster", vec![Some("isobar-runs")]),
        ("crds", vec![]),
    ] {
        let output = Command::new(&kubectl).arg("kustomize").arg(manifests().join(directory)).output().unwrap();
        assert!(output.status.success(), "{directory}: {}", String::from_utf8_lossy(&output.stderr));
        let rendered = documents(&String::from_utf8(output.stdout).unwrap());
        let roles = rendered.iter().filter(|document| document["kind"] == "Role");
        assert_eq!(roles.map(|role| role["metadata"]["namespace"].as_str()).collect::<Vec<_>>(), lease_roles, "{directory}");
    }
}

#[test]
fn promtool_accepts_the_alerts() {
    let Some(promtool) = tools::find("promtool", "promtool_accepts_the_alerts") else { return };
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("rules.yaml");
    std::fs::write(&rules, serde_json::to_string(&alert_groups()).unwrap()).unwrap();
    let output = Command::new(promtool).args(["check", "rules"]).arg(&rules).output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

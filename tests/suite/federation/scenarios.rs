//! Plays the scenario files. In: the files of `scenarios/`. Out: what did not come about, by file and case.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use isobar::sim::{
    faults::{Fault, Target},
    federation::{compute_cluster, create, kubeconfig, kubeconfig_secret},
    link::LinkState,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    expect::{broken, unfinished, unmet},
    file::{Case, ClusterDef, FaultStep, File, Register, RunStep, Step, span},
    stage::{Stage, text},
};
use crate::simulated::{in_paused_time, on_all_cores};

/// After everything has come about it must stay so.
const AFTERWARDS: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(4);
const HISTORY_MAX: usize = 8192;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/federation/scenarios")
}

/// All files with their names, in order.
pub fn files() -> Vec<(String, File)> {
    let entries = std::fs::read_dir(folder()).expect("the folder of scenarios").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let yaml = std::fs::read_to_string(&path).expect("the file is read");
        let file = serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, file)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn every_scenario_comes_out_as_it_says() {
    let only = std::env::var("ISOBAR_SCENARIO").unwrap_or_default();
    let files: Vec<_> = files().into_iter().filter(|(name, _)| name.starts_with(&only)).collect();
    let cases: Vec<_> = files.iter().flat_map(|(name, file)| file.cases.iter().map(move |case| (name, case))).collect();
    let wrong = on_all_cores(cases.iter(), |(name, case)| {
        let begun = std::time::Instant::now();
        let problems = in_paused_time(play(case));
        println!("{name}, {}: {:.1?}", case.name, begun.elapsed());
        problems.into_iter().map(|problem| format!("{name}, {}: {problem}", case.name)).collect::<Vec<_>>()
    })
    .concat();
    let played = cases.len();
    assert!(played > 0, "no scenario begins with {only:?}");
    assert!(wrong.is_empty(), "{} problems in {played} plays:\n{}", wrong.len(), wrong.join("\n"));
}

async fn play(case: &Case) -> Vec<String> {
    let mut clusters = case.clusters.clone();
    if clusters.is_empty() {
        clusters.insert("cloud".into(), ClusterDef::default());
    }
    let mut stage = Stage::new(7, &clusters, case.home_cpu.as_deref(), HISTORY_MAX).await;
    (0..case.replicas).for_each(|_| stage.start_replica());
    let ready: Vec<&str> = clusters.iter().filter(|(_, def)| def.register && def.ready).map(|(name, _)| &**name).collect();
    stage.until_ready(&ready).await;
    let origin = Instant::now();
    let mut wrong = Vec::new();
    for step in &case.steps {
        stage.pass(origin + span(&step.at)).await;
        if let Some(expect) = &step.expect {
            wrong.extend(unmet(&stage, expect).into_iter().map(|problem| format!("at {}: {problem}", step.at)));
        }
        perform(&mut stage, step).await;
        wrong.extend(broken(&stage, case.may_start_again).into_iter().map(|problem| format!("by {}: {problem}", step.at)));
        if !wrong.is_empty() {
            stage.end();
            return wrong;
        }
    }
    let deadline = Instant::now() + span(&case.settle);
    loop {
        wrong = unmet(&stage, &case.expect);
        if case.unfinished.is_none() {
            wrong.extend(unfinished(&stage));
        }
        if wrong.is_empty() || Instant::now() >= deadline {
            break;
        }
        stage.pass(Instant::now() + LOOK).await;
    }
    if wrong.is_empty() {
        stage.pass(Instant::now() + AFTERWARDS).await;
        wrong.extend(unmet(&stage, &case.expect).into_iter().map(|problem| format!("not for long: {problem}")));
    }
    wrong.extend(broken(&stage, case.may_start_again));
    let mut by_cluster: BTreeMap<String, usize> = BTreeMap::new();
    stage.federation.starts().into_iter().for_each(|(cluster, _)| *by_cluster.entry(cluster).or_default() += 1);
    tracing::info!(?by_cluster, "starts");
    stage.end();
    wrong
}

async fn perform(stage: &mut Stage, step: &Step) {
    if let Some(pods) = &step.create {
        stage.create(pods).await;
    }
    for (cluster, state) in &step.link {
        stage.cluster(cluster).link().set(state_of(state));
    }
    if let Some(flap) = &step.flap {
        let every = span(&flap.every);
        let states =
            (0..2 * flap.times).map(|turn| (every * turn, if turn % 2 == 0 { LinkState::Refused } else { LinkState::Up })).collect();
        tokio::spawn(stage.cluster(&flap.cluster).link().clone().follow(states));
    }
    if let Some(fault) = &step.fault {
        arm(stage, fault);
    }
    if let Some(on) = &step.calm {
        stage.cluster(on).faults().clear();
    }
    if let Some(rights) = &step.rights {
        let permissions = stage.cluster(&rights.on).permissions();
        if rights.restore {
            permissions.allow_all();
        }
        if rights.revoke {
            permissions.revoke();
        }
        for denied in &rights.deny {
            let (verb, resource) = denied.split_once(' ').expect("verb and resource");
            permissions.deny(verb, resource);
        }
    }
    if let Some(kill) = &step.kill_at {
        stage.kill_at(&kill.on, Target::of(leaked(&kill.verb), leaked(&kill.resource)), kill.after, kill.skip);
    }
    if let Some(span_text) = &step.away {
        stage.leave(span(span_text));
    }
    if let Some(place) = &step.dead_node {
        stage.cluster(&place.on).dead_nodes().kill(&place.node);
    }
    if let Some(on) = &step.compact {
        stage.cluster(on).server().store().compact();
    }
    if let Some(register) = &step.register {
        enter(stage, register).await;
    }
    for call in &step.call {
        let done = stage.ask(&call.on, &call.method, &call.path, &call.body).await;
        assert!(call.may_fail || done.is_ok(), "{} {}: {done:?}", call.method, call.path);
    }
    if let Some(run) = &step.run {
        act_on_run(stage, run).await;
    }
    if step.kill {
        stage.kill_leader();
    }
}

fn state_of(word: &str) -> LinkState {
    match word {
        "up" => LinkState::Up,
        "refused" => LinkState::Refused,
        "silent" => LinkState::Silent,
        "slow" => LinkState::Slow { round_trip: Duration::from_millis(50) },
        other => panic!("{other:?} is no state of a line"),
    }
}

/// Targets are named by constants; a test's few words may stay for ever.
fn leaked(word: &str) -> &'static str {
    Box::leak(word.to_owned().into_boxed_str())
}

fn arm(stage: &Stage, step: &FaultStep) {
    let fault = match &*step.fault {
        "refused" => Fault::Refused,
        "errorBefore" => Fault::ErrorBefore,
        "errorAfter" => Fault::ErrorAfter,
        "lostAfter" => Fault::LostAfter,
        "unavailable" => Fault::Unavailable,
        "hang" => Fault::Hang,
        "hangAfter" => Fault::HangAfter,
        "late" => Fault::Late(span(&step.delay)),
        "tooMany" => Fault::TooManyRequests { retry_after_seconds: 2 },
        "watchExpired" => Fault::WatchExpired,
        "listExpired" => Fault::ListExpired,
        other => panic!("{other:?} is no fault"),
    };
    let target = Target { verb: step.verb.as_deref().map(leaked), resource: step.resource.as_deref().map(leaked) };
    let faults = stage.cluster(&step.on).faults();
    match step.times {
        Some(times) => faults.scripted(target, fault, step.skip, times),
        None => faults.often(target, fault, 1.0),
    };
}

async fn enter(stage: &Stage, register: &Register) {
    let text = match &register.kubeconfig {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => kubeconfig(register.to.as_deref().unwrap_or(&register.name)),
    };
    let home = stage.federation.home();
    let secrets = "/api/v1/namespaces/isobar-system/secrets";
    let secret = kubeconfig_secret(&register.name, &text);
    let _ = stage.ask("home", "DELETE", &format!("{secrets}/{}", register.name), &Value::Null).await;
    create(home, secrets, &secret).await.expect("a Secret");
    let object = compute_cluster(&register.name, &register.spec);
    if home.server().object("isobar.dev", "computeclusters", "", &register.name).is_none() {
        create(home, "/apis/isobar.dev/v1alpha1/computeclusters", &object).await.expect("a ComputeCluster");
    }
}

/// What somebody over there does to the runs of a home pod.
async fn act_on_run(stage: &Stage, step: &RunStep) {
    let runs = stage.runs_of(&step.on, &step.of);
    assert!(!runs.is_empty(), "{} has no run in {}", step.of, step.on);
    for run in runs {
        let (namespace, name) = (text(&run["metadata"]["namespace"]), text(&run["metadata"]["name"]));
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let done = match &*step.act {
            "delete" => stage.ask(&step.on, "DELETE", &path, &Value::Null).await,
            "forceDelete" => {
                let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
                stage.ask(&step.on, "DELETE", &path, &now).await
            }
            "evict" => {
                let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
                stage.ask(&step.on, "POST", &format!("{path}/eviction"), &eviction).await
            }
            "stripFinalizer" => stage.ask(&step.on, "PATCH", &path, &json!({"metadata": {"finalizers": null}})).await,
            "deleteSecrets" => {
                for secret in stage.cluster(&step.on).server().objects("", "secrets") {
                    let (namespace, name) = (text(&secret["metadata"]["namespace"]), text(&secret["metadata"]["name"]));
                    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
                    stage.ask(&step.on, "DELETE", &path, &Value::Null).await.expect("deleted");
                }
                Ok(String::new())
            }
            other => panic!("{other:?} cannot be done to a run"),
        };
        assert!(done.is_ok(), "{}: {done:?}", step.act);
    }
}

/// The page on the federation has the table of these files as it is made here, every write at which a leader is killed, and why what is not played is not.
#[test]
fn the_page_on_failure_modes_lists_the_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/federation.md")).expect("docs/federation.md");
    let mut wanted = Vec::new();
    for (at, (name, file)) in files().into_iter().enumerate() {
        assert!(name.starts_with(&format!("{:02}-", at + 1)), "one file a failure mode, in order: {name}");
        assert!(!file.cases.is_empty() || file.not_runnable.is_some(), "{name} plays nothing and does not say why");
        file.also.iter().for_each(|other| assert!(root.join(other).exists(), "{name} names {other}, which is not there"));
        wanted.push(row(at + 1, &name, &file));
        wanted.extend(file.not_runnable.iter().map(|reason| format!("- `{name}`: {reason}.")));
        for (_, write) in file.cases.iter().filter(|_| at == 0).filter_map(|case| case.name.split_once(" before ")) {
            let (call, place) = write.split_once(" at ").expect("a call and its place");
            let place = if place == "home" { place } else { "over there" };
            assert!(page.contains(&format!("| `{call}` | {place} |")), "docs/federation.md does not list {call} {place}");
        }
    }
    let missing: Vec<String> = wanted.into_iter().filter(|line| !page.lines().any(|written| written == line)).collect();
    assert!(missing.is_empty(), "docs/federation.md lacks these lines:\n{}", missing.join("\n"));
}

/// A mode, what is played of it, and the other tests that hold it: those on real control planes first.
fn row(mode: usize, name: &str, file: &File) -> String {
    let cases = match file.cases.len() {
        0 => "-".to_owned(),
        1 => "1 case".to_owned(),
        many => format!("{many} cases"),
    };
    let (real, other): (Vec<&String>, Vec<&String>) = file.also.iter().partition(|path| path.starts_with("tests/cluster/"));
    let listed = |paths: &[&String]| {
        let names: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(", ") }
    };
    format!("| {mode} | {} | `{name}` | {cases} | {} | {} |", file.title, listed(&real), listed(&other))
}

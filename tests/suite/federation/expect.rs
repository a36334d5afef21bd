//! Whether a world is as it should be. In: a world and what is expected of it. Out: what is not so.

use isobar::federation::names;
use serde_json::Value;

use super::{
    file::{Expect, PodExpect},
    stage::{Stage, text},
};

/// What is not as expected.
pub fn unmet(stage: &Stage, expect: &Expect) -> Vec<String> {
    let mut wrong = Vec::new();
    let home = stage.home_pods();
    let starts = stage.starts();
    for (name, wanted) in &expect.pods {
        let matching = stage.uids.iter().filter(|(known, _)| match name.strip_suffix('*') {
            Some(beginning) => known.starts_with(beginning),
            None => *known == name,
        });
        let before = wrong.len();
        let mut any = false;
        for (known, uids) in matching {
            any = true;
            let uid = uids.last().cloned().unwrap_or_default();
            wrong.extend(
                pod(wanted, home.get(&uid), starts.get(&uid).copied().unwrap_or_default())
                    .into_iter()
                    .map(|what| format!("pod {known}: {what}")),
            );
        }
        if !any {
            wrong.push(format!("pod {name}: never created"));
        }
        // A few of many are enough to read.
        wrong.truncate(before + 3);
        wrong.extend((wrong.len() > before).then(|| story(stage, name.trim_end_matches('*'))).flatten());
    }
    let events = stage.federation.home().server().objects("", "events");
    for wanted in &expect.events {
        let found = events.iter().any(|event| {
            event["involvedObject"]["name"] == *wanted.on
                && event["reason"] == *wanted.reason
                && text(&event["message"]).contains(&wanted.note)
        });
        if !found {
            let known: Vec<String> = events
                .iter()
                .filter(|event| event["involvedObject"]["name"] == *wanted.on)
                .map(|event| format!("{}: {}", text(&event["reason"]), text(&event["message"])))
                .collect();
            wrong.push(format!("no event {} on {} with {:?}, only {known:?}", wanted.reason, wanted.on, wanted.note));
        }
    }
    for (cluster, conditions) in &expect.conditions {
        for (kind, wanted) in conditions {
            let condition = stage.condition(cluster, kind);
            let (status, reason) = wanted.split_once(' ').unwrap_or((wanted, ""));
            if condition["status"] != *status || !(reason.is_empty() || condition["reason"] == *reason) {
                wrong.push(format!("condition {kind} of {cluster} is {condition}, not {wanted}"));
            }
        }
    }
    for (cluster, words) in &expect.says {
        let object = stage.federation.home().server().object("isobar.dev", "computeclusters", "", cluster).unwrap_or_default();
        if !object["status"]["conditions"].to_string().contains(words) {
            wrong.push(format!("{cluster} does not say {words:?}: {}", object["status"]["conditions"]));
        }
    }
    for (cluster, wanted) in &expect.runs {
        let pods = stage.cluster(cluster).server().objects("", "pods");
        let ours = |pod: &&Value| {
            pod["metadata"]["labels"].get(names::RUN_HOME_CLUSTER).is_some() && pod["metadata"]["deletionTimestamp"].is_null()
        };
        let runs = pods.iter().filter(ours).count();
        if runs != *wanted {
            wrong.push(format!("{runs} runs in {cluster}, not {wanted}"));
        }
    }
    let kept = stage.federation.logs().pods();
    for name in &expect.logs {
        let uid = stage.uids.get(name).and_then(|uids| uids.last()).cloned().unwrap_or_default();
        if !kept.contains(&uid) {
            wrong.push(format!("no log of {name} came home"));
        }
    }
    for (paths, wanted) in [(&expect.present, true), (&expect.absent, false)] {
        wrong.extend(paths.iter().filter(|path| is_there(stage, path) != wanted).map(|path| format!("{path}: there: {}", !wanted)));
    }
    let starts: usize = starts.values().sum();
    if expect.most_starts.is_some_and(|most| starts > most) {
        wrong.push(format!("{starts} starts of pods"));
    }
    wrong
}

/// `cluster plural[.group] [namespace/]name`, with `$RUNS` for the namespace of runs.
fn is_there(stage: &Stage, what: &str) -> bool {
    let words: Vec<&str> = what.split(' ').collect();
    let [cluster, plural, name] = words[..] else { panic!("{what:?}: cluster, plural and name are wanted") };
    let (plural, group) = plural.split_once('.').unwrap_or((plural, ""));
    let name = stage.filled(name);
    let (namespace, name) = name.split_once('/').unwrap_or(("", &name));
    stage.cluster(cluster).server().object(group, plural, namespace, name).is_some()
}

fn pod(wanted: &PodExpect, pod: Option<&Value>, starts: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    if wanted.starts.is_some_and(|wanted| wanted != starts) {
        wrong.push(format!("{starts} starts"));
    }
    let Some(pod) = pod else {
        if !wanted.gone {
            wrong.push("gone".into());
        }
        return wrong;
    };
    if wanted.gone {
        wrong.push(format!("still there: {}", pod["status"]));
        return wrong;
    }
    let mut same = |what: &str, wanted: Option<&str>, found: &str| {
        if wanted.is_some_and(|wanted| wanted != found) {
            wrong.push(format!("{what} is {found:?}, not {:?}", wanted.unwrap_or_default()));
        }
    };
    same("phase", wanted.phase.as_deref(), &text(&pod["status"]["phase"]));
    same("address", wanted.address.as_deref(), &text(&pod["status"]["podIP"]));
    same("reason", wanted.reason.as_deref(), &text(&pod["status"]["reason"]));
    let annotations = &pod["metadata"]["annotations"];
    let bound = !text(&pod["spec"]["nodeName"]).is_empty();
    let on = match (bound, annotations[names::CLUSTER].as_str()) {
        (true, Some(cluster)) => cluster.to_owned(),
        (true, None) => "home".to_owned(),
        (false, _) => "nowhere".to_owned(),
    };
    same("cluster", wanted.on.as_deref(), &on);
    let attempt = wanted.attempt.map(|attempt| attempt.to_string());
    same("attempt", attempt.as_deref(), &text(&annotations[names::ATTEMPT]));
    let exit = wanted.exit.map(|exit| exit.to_string());
    same("exit code", exit.as_deref(), &pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].to_string());
    let deleting = wanted.deleting.map(|deleting| deleting.to_string());
    same("deleting", deleting.as_deref(), &pod["metadata"]["deletionTimestamp"].is_string().to_string());
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let condition = |kind: &str| conditions.iter().find(|condition| condition["type"] == *kind).cloned().unwrap_or_default();
    for (kind, status) in &wanted.conditions {
        same(kind, Some(status), &text(&condition(kind)["status"]));
    }
    if let Some(words) = &wanted.waits_for {
        let message = text(&condition("PodScheduled")["message"]);
        if !message.contains(words) {
            wrong.push(format!("waits for {message:?}, not {words:?}"));
        }
    }
    wrong
}

/// What is known of the first pod whose name begins so, rather of one that has not ended, for whoever reads of a failure.
fn story(stage: &Stage, name: &str) -> Option<String> {
    let home = stage.home_pods();
    let named = || home.values().filter(|pod| text(&pod["metadata"]["name"]).starts_with(name));
    let pod = named().find(|pod| !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))).or_else(|| named().next())?;
    let name = text(&pod["metadata"]["name"]);
    let runs: Vec<String> = stage
        .federation
        .clusters()
        .keys()
        .flat_map(|cluster| {
            stage.runs_of(cluster, &name).into_iter().map(move |run| format!("{cluster}: {} {}", run["metadata"], run["status"]))
        })
        .collect();
    Some(format!("{name}: {} {} {}; runs: {runs:?}", pod["metadata"], pod["spec"]["nodeName"], pod["status"]))
}

/// What must never be, whatever is expected.
pub fn broken(stage: &Stage, may_start_again: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    if !may_start_again {
        wrong.extend(stage.federation.started_twice().into_iter().map(|(uid, starts)| format!("started twice: {uid}: {starts:?}")));
    }
    wrong
}

/// What must not be in the end: runs and bundles of home pods that are gone or have ended, home pods that hang.
pub fn unfinished(stage: &Stage) -> Vec<String> {
    let home = stage.home_pods();
    let mut wrong = Vec::new();
    for (name, cluster) in stage.federation.clusters() {
        for plural in ["pods", "secrets"] {
            for object in cluster.server().objects("", plural) {
                let uid = text(&object["metadata"]["labels"][names::RUN_HOME_UID]);
                if uid.is_empty() {
                    continue;
                }
                let live = home.get(&uid).is_some_and(|pod| !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")));
                if !live {
                    wrong.push(format!("left in {name}: {plural} {}", text(&object["metadata"]["name"])));
                }
            }
        }
    }
    for pod in home.values().filter(|pod| pod["metadata"]["deletionTimestamp"].is_string()) {
        wrong.push(format!("{} hangs: {}", text(&pod["metadata"]["name"]), pod["status"]));
    }
    wrong
}

//! One question, all the way: extenders one after the other, each about what the last has left; then scores, all at once. In: a question. Out: an answer.
//!
//! Source: `findNodesThatPassExtenders`, `prioritizeNodes` and `callExtenders` v1.37.1.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    objects::{NodeObjects, Objects},
    protocol::{self, Verb},
    remote::Remote,
};
use crate::scheduler::{
    extenders::{Answer, NodesVerdict, Offer, Question, Topic},
    framework::Refusal,
};

/// Asks whoever has to be asked.
pub async fn answer(question: &Question, remotes: &[Arc<Remote>], objects: &Objects) -> Answer {
    let pod = match objects.pod(&question.pod.key, &question.pod.uid).await {
        Ok(pod) => pod,
        Err(why) => return Answer::Failed(why),
    };
    match &question.topic {
        Topic::Nodes(names) => match about_nodes(&pod, (names, question.nodes_changed), remotes, objects).await {
            Ok(verdict) => Answer::Nodes(verdict),
            Err(why) => Answer::Failed(why),
        },
        Topic::Room(offers) => {
            let left = about_room(&pod, offers, remotes, objects).await;
            Answer::Room(left.map(|left| left.into_iter().map(protocol::cleared).collect()))
        }
    }
}

async fn about_nodes(
    pod: &str,
    (names, changed): (&[Box<str>], u64),
    remotes: &[Arc<Remote>],
    objects: &Objects,
) -> Result<NodesVerdict, String> {
    let wants_objects = |remote: &Arc<Remote>| {
        let is_asked = remote.verb(Verb::Filter).is_some() || remote.verb(Verb::Prioritize).is_some();
        is_asked && !remote.configured.node_cache_capable
    };
    let nodes = if remotes.iter().any(wants_objects) { Some(objects.nodes(names, changed).await?) } else { None };
    let mut left: Vec<Box<str>> = names.to_vec();
    let mut refused: BTreeMap<Box<str>, Refusal> = BTreeMap::new();
    for remote in remotes.iter().filter(|remote| remote.verb(Verb::Filter).is_some()) {
        if left.is_empty() {
            break;
        }
        let asked: Vec<&str> = left.iter().map(|name| &**name).collect();
        let body = remote.call(Verb::Filter, args(remote, pod, &asked, nodes.as_ref())).await;
        let result = body.and_then(|body| {
            let read = protocol::read_filter(&body, &asked, remote.configured.node_cache_capable);
            read.map_err(|why| remote.nonsense(Verb::Filter, &why))
        });
        match result {
            Ok(filtered) => {
                refused.extend(filtered.refused);
                left = filtered.left;
            }
            Err(why) if remote.configured.ignorable => tracing::warn!("an extender that can be ignored did not filter: {why}"),
            Err(why) => return Err(why),
        }
    }
    let scores = if left.len() > 1 { scores(pod, &left, remotes, nodes.as_ref()).await } else { Vec::new() };
    Ok(NodesVerdict { left, refused: refused.into_iter().collect(), scores })
}

/// All at once. What fails here is ignored: the others decide which node is the best.
async fn scores(pod: &str, left: &[Box<str>], remotes: &[Arc<Remote>], nodes: Option<&NodeObjects>) -> Vec<(Box<str>, i64)> {
    let asked: Vec<&str> = left.iter().map(|name| &**name).collect();
    let scorers = remotes.iter().filter(|remote| remote.verb(Verb::Prioritize).is_some());
    let calls = scorers.map(|remote| {
        let (remote, args) = (remote.clone(), args(remote, pod, &asked, nodes));
        tokio::spawn(async move {
            let body = remote.call(Verb::Prioritize, args).await?;
            protocol::read_priorities(&body, remote.configured.weight).map_err(|why| remote.nonsense(Verb::Prioritize, &why))
        })
    });
    let calls: Vec<_> = calls.collect();
    let mut sums: BTreeMap<Box<str>, i64> = BTreeMap::new();
    for call in calls {
        match call.await.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(scores) => {
                for (name, score) in scores {
                    let sum = sums.entry(name).or_default();
                    *sum = sum.saturating_add(score);
                }
            }
            Err(why) => tracing::warn!("an extender gave no scores: {why}"),
        }
    }
    sums.into_iter().collect()
}

/// By name to whoever knows nodes, as objects to others.
fn args(remote: &Remote, pod: &str, asked: &[&str], nodes: Option<&NodeObjects>) -> String {
    match nodes.filter(|_| !remote.configured.node_cache_capable) {
        None => protocol::nodes_args(pod, asked, None),
        Some(nodes) => {
            let objects: Vec<&str> = asked.iter().filter_map(|name| nodes.get(*name).map(String::as_str)).collect();
            protocol::nodes_args(pod, asked, Some(&objects))
        }
    }
}

async fn about_room(pod: &str, offers: &[Offer], remotes: &[Arc<Remote>], objects: &Objects) -> Result<Vec<Offer>, String> {
    let asked = || remotes.iter().filter(|remote| remote.verb(Verb::Preempt).is_some());
    let victims = if asked().any(|remote| !remote.configured.node_cache_capable) {
        Some(objects.victims(offers.iter().flat_map(|offer| &offer.victims)).await)
    } else {
        None
    };
    let mut left = offers.to_vec();
    for remote in asked() {
        if left.is_empty() {
            break;
        }
        let pods = victims.as_ref().filter(|_| !remote.configured.node_cache_capable);
        let body = remote.call(Verb::Preempt, protocol::preempt_args(pod, &left, pods)).await;
        let result = body.and_then(|body| {
            let read = protocol::read_preempt(&body, &left, remote.configured.ignorable);
            read.map_err(|why| remote.nonsense(Verb::Preempt, &why))
        });
        match result {
            Ok(offers) => left = offers,
            Err(why) if remote.configured.ignorable => tracing::warn!("an extender that can be ignored had no word in preemption: {why}"),
            Err(why) => return Err(why),
        }
    }
    Ok(left)
}

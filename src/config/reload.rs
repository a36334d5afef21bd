//! Taking up edits while running. In: the files' content, each time it was read. Out: nothing new, a new configuration, or why the old one stays.
//!
//! Whoever does the reading polls the *content*: a mounted `ConfigMap` changes by swapping a symlink, which file notifications miss. Profiles, weights,
//! arguments, tie-breaks, extenders and limits change live, between two pods. What is built once at start (the client, the election, the endpoint)
//! keeps its old value, and the change is reported, so that nobody waits for an edit that will not come.

use super::load::{Source, load};
use super::problem::Problems;
use super::resolved::Configuration;
use crate::scheduler::registry::Registry;

/// What became of an edit.
#[derive(Clone, Debug, PartialEq)]
pub enum Reload {
    /// The files are as they were at the last look.
    Unchanged,
    /// This counts from now on.
    Applied(Box<Applied>),
    /// The last good configuration stays. Said once for each content.
    Refused(Problems),
}

/// An edit that was taken up.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Complete; fields that need a restart have the values that the process runs with.
    pub configuration: Configuration,
    /// Fields that were edited, but count only after a restart (`leaderElection`, ...).
    pub restart_needed: Vec<&'static str>,
}

/// Remembers the last look and the last good configuration.
#[derive(Debug)]
pub struct Reloader {
    registry: Registry,
    seen: Vec<(String, Vec<u8>)>,
    good: Configuration,
}

impl Reloader {
    /// Starts from files that were loaded.
    pub fn new(sources: &[Source<'_>], good: Configuration, registry: Registry) -> Self {
        Self { registry, seen: owned(sources), good }
    }

    /// What counts now.
    pub fn current(&self) -> &Configuration {
        &self.good
    }

    /// Compares with the last look, and loads what has changed. A file that cannot be read right now is the caller's to report, and to leave alone.
    pub fn observe(&mut self, sources: &[Source<'_>]) -> Reload {
        let same = self.seen.len() == sources.len()
            && self.seen.iter().zip(sources).all(|((name, content), source)| name == source.name && content == source.content);
        if same {
            return Reload::Unchanged;
        }
        self.seen = owned(sources);
        match load(sources, &self.registry) {
            Err(problems) => Reload::Refused(problems),
            Ok(edited) => {
                let (configuration, restart_needed) = keep_running_values(edited, &self.good);
                self.good = configuration.clone();
                Reload::Applied(Box::new(Applied { configuration, restart_needed }))
            }
        }
    }
}

fn owned(sources: &[Source<'_>]) -> Vec<(String, Vec<u8>)> {
    sources.iter().map(|source| (source.name.to_owned(), source.content.to_vec())).collect()
}

/// Fields that are read once at start keep their values; those that were edited are named.
fn keep_running_values(mut edited: Configuration, running: &Configuration) -> (Configuration, Vec<&'static str>) {
    let mut restart = Vec::new();
    let mut keep = |name: &'static str, changed: bool| {
        if changed {
            restart.push(name);
        }
    };
    keep("leaderElection", edited.leader_election != running.leader_election);
    keep("clientConnection", edited.client_connection != running.client_connection);
    keep("enableProfiling", edited.enable_profiling != running.enable_profiling);
    keep("enableContentionProfiling", edited.enable_contention_profiling != running.enable_contention_profiling);
    keep("delayCacheUntilActive", edited.delay_cache_until_active != running.delay_cache_until_active);
    keep("serving", edited.isobar.serving != running.isobar.serving);
    keep("federation", edited.isobar.federation != running.isobar.federation);
    keep("tasks", edited.isobar.tasks != running.isobar.tasks);
    edited.leader_election.clone_from(&running.leader_election);
    edited.client_connection.clone_from(&running.client_connection);
    edited.enable_profiling = running.enable_profiling;
    edited.enable_contention_profiling = running.enable_contention_profiling;
    edited.delay_cache_until_active = running.delay_cache_until_active;
    edited.isobar.serving.clone_from(&running.isobar.serving);
    edited.isobar.federation.clone_from(&running.isobar.federation);
    edited.isobar.tasks.clone_from(&running.isobar.tasks);
    (edited, restart)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(rest: &str) -> String {
        format!("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n{rest}")
    }

    fn observe(reloader: &mut Reloader, text: &str) -> Reload {
        reloader.observe(&[Source { name: "f", content: text.as_bytes() }])
    }

    fn started(text: &str) -> Reloader {
        let sources = [Source { name: "f", content: text.as_bytes() }];
        let good = load(&sources, &Registry::in_tree()).unwrap_or_else(|problems| panic!("{problems}"));
        Reloader::new(&sources, good, Registry::in_tree())
    }

    #[test]
    fn a_broken_edit_keeps_the_last_good_and_is_told_once() {
        let good = file("profiles: [{schedulerName: a}]\n");
        let bad = file("profiles: [{schedulerName: b, plugin: 3}]\n");
        let mut reloader = started(&good);
        assert_eq!(observe(&mut reloader, &good), Reload::Unchanged);
        assert!(matches!(observe(&mut reloader, &bad), Reload::Refused(problems) if problems.0.len() == 1));
        assert_eq!(observe(&mut reloader, &bad), Reload::Unchanged);
        assert_eq!(reloader.current().profiles[0].scheduler_name, "a");
        assert!(matches!(observe(&mut reloader, &good), Reload::Applied(_)), "back to the good file: applied again");
    }

    #[test]
    fn profiles_change_live_and_the_rest_is_reported() {
        let mut reloader = started(&file("profiles: [{schedulerName: a}]\n"));
        let edit = file("profiles: [{schedulerName: b}]\nleaderElection: {leaderElect: false}\npodMaxBackoffSeconds: 20\n");
        let Reload::Applied(applied) = observe(&mut reloader, &edit) else { panic!("a good file") };
        assert_eq!(applied.restart_needed, ["leaderElection"]);
        assert!(applied.configuration.leader_election.leader_elect, "the running value");
        assert_eq!(applied.configuration.profiles[0].scheduler_name, "b");
        assert_eq!(applied.configuration.backoff.max.0, 20_000);
        assert_eq!(reloader.current(), &applied.configuration);
    }
}

//! Runs and their pods. In: what watches say of them. Out: the next order for each, and who starts now.

use super::{
    Machine,
    delivery::Delivery,
    records::{Group, RunRecord},
};
use crate::{
    model::time::{DurationMs, Timestamp},
    tasks::{
        admission::{self, Candidate},
        concurrency,
        effect::{Command, Effect, News, Subject},
        facts::{Key, Pod, Run, is_older},
        freeze::{self, Owner},
        life::{self, Around, Follower, Step, Turn},
        run::{Outcome, Phase, TaskRunStatus},
        spec::ConcurrencyPolicy,
        trigger::after::{self, Upstream},
    },
};

/// A run whose task is not known so long after its creation is of no task.
const TASK_KNOWN_WITHIN: DurationMs = DurationMs(10_000);

impl Machine {
    pub(super) fn run(&mut self, run: Run) {
        let key = run.key.clone();
        let before = self.runs.get(&key);
        if before.is_some_and(|before| before.run.uid != run.uid && !is_older(&run.resource_version, &before.run.resource_version)) {
            let uid = before.map(|before| before.run.uid.clone()).unwrap_or_default();
            self.run_gone(Timestamp(0), &key, &uid);
        }
        match self.runs.get_mut(&key) {
            Some(record) if record.run.uid != run.uid => return,
            Some(record) => {
                if !record.see(run) {
                    return;
                }
            }
            None => {
                let namespace = key.namespace.clone();
                self.runs.insert(key.clone(), RunRecord::new(run));
                let mine = self.orphans.values().filter(|orphan| orphan.pod.key.namespace == namespace && orphan.pod.run == key.name);
                self.dirty.extend(mine.map(|orphan| Subject::Orphan(orphan.pod.key.clone())).collect::<Vec<_>>());
            }
        }
        self.changed(&key);
    }

    /// What a run counts as follows from its status and its pod.
    pub(super) fn recount(&mut self, key: &Key) {
        if let Some(record) = self.runs.get_mut(key) {
            record.share = Some(self.tally.count(&record.run, record.has_node(), record.share.as_ref()));
        }
    }

    /// A run is not what it was: whoever looks at it has to look again.
    pub(super) fn changed(&mut self, key: &Key) {
        self.dirty.insert(Subject::Run(key.clone()));
        self.dirty.extend(self.watchers.remove(key).unwrap_or_default());
        self.plan_wanted = true;
        self.recount(key);
        let Some(record) = self.runs.get_mut(key) else { return };
        if record.run.is_reaped() {
            self.dirty.insert(Subject::Task(Key { namespace: key.namespace.clone(), name: record.run.task.clone() }));
        }
        let Some(group) = Group::of(&record.run).filter(|_| !concurrency::is_unbounded(&record.run)) else { return };
        // Most writes are nothing to the others.
        let standing = concurrency::Standing::of(&record.run);
        if record.standing.as_ref() == Some(&standing) {
            return;
        }
        let peers = self.groups.entry(group.clone()).or_default();
        if let Some(before) = &record.standing {
            peers.leave(before);
        }
        peers.enter(standing.clone());
        if let Some(record) = self.runs.get_mut(key) {
            record.standing = Some(standing);
        }
        self.group_changed(&group);
    }

    /// Those whose turn may have come look; a group of nobody is forgotten.
    fn group_changed(&mut self, group: &Group) {
        let Some(peers) = self.groups.get(group) else { return };
        self.dirty.extend(peers.next().into_iter().map(Subject::Run));
        if peers.is_empty() {
            self.groups.remove(group);
        }
    }

    pub(super) fn run_gone(&mut self, now: Timestamp, key: &Key, uid: &str) {
        if self.runs.get(key).is_none_or(|record| *record.run.uid != *uid) {
            return;
        }
        let Some(record) = self.runs.remove(key) else { return };
        self.tally.forget(&record.run, record.share.as_ref());
        self.ready.remove(key);
        self.admitted.remove(key);
        self.dirty.extend(self.watchers.remove(key).unwrap_or_default());
        self.dirty.insert(Subject::Task(Key { namespace: key.namespace.clone(), name: record.run.task.clone() }));
        self.plan_wanted = true;
        if let (Some(group), Some(standing)) = (Group::of(&record.run), &record.standing) {
            if let Some(peers) = self.groups.get_mut(&group) {
                peers.leave(standing);
            }
            self.group_changed(&group);
        }
        record.pods.into_values().for_each(|pod| self.orphan(now, pod));
    }

    pub(super) fn pod(&mut self, now: Timestamp, pod: Pod) {
        let Some(owner) = self.owner_of(&pod) else { return self.orphan(now, pod) };
        self.orphans.remove(&pod.key);
        if self.runs.get_mut(&owner).is_some_and(|record| record.see_pod(pod)) {
            self.dirty.insert(Subject::Run(owner));
            self.plan_wanted = true;
        }
    }

    pub(super) fn pod_gone(&mut self, now: Timestamp, key: &Key, uid: &str) {
        if self.orphans.get(key).is_some_and(|orphan| *orphan.pod.uid == *uid) {
            self.orphans.remove(key);
        }
        // A pod of a run is named after it, and one of another name is of none.
        let Some((run, _)) = key.name.rsplit_once('-') else { return };
        let run = Key::new(&key.namespace, run);
        let has = |record: &&mut RunRecord| record.pods.get(&key.name).is_some_and(|pod| *pod.uid == *uid);
        if let Some(record) = self.runs.get_mut(&run).filter(has) {
            record.pod_absent(&key.name, now);
            self.dirty.insert(Subject::Run(run));
        }
    }

    pub(super) fn step_run(&mut self, now: Timestamp, key: &Key, out: &mut Vec<Command>) {
        let subject = Subject::Run(key.clone());
        let Some(record) = self.runs.get(key) else { return };
        if record.stale {
            if let Some(at) = record.notes.not_before.filter(|at| *at > now) {
                return self.wake(at, subject);
            }
            return self.order_for(key, Effect::ReadRun, out);
        }
        let follower = self.follower(key, now, out);
        let Some(record) = self.runs.get(key) else { return };
        let (turn, replaced_by) = self.turn(&record.run, now);
        let around = Around {
            now,
            rules: &self.rules,
            leading_since: self.leading.unwrap_or(now),
            turn: turn.clone(),
            replaced_by: replaced_by.as_deref(),
            admitted: self.admitted.contains(key),
            blocked: record.blocked.as_deref(),
            follower,
            node_lost: record.pods.values().any(|pod| self.lost_nodes.contains(&pod.node)),
            expired: record.expired,
        };
        let step = life::step(life::Subject { run: &record.run, pods: &record.pods, notes: &record.notes }, &around);
        let could = matches!(record.run.phase(), None | Some(Phase::Waiting)) && turn == Turn::Go && life::is_complete(&record.run, now);
        let could = !record.run.cancel && (could || record.run.phase() == Some(Phase::Queued)) && !around.admitted;
        match if could { Candidate::of(&record.run, record.blocked.clone()) } else { None } {
            Some(candidate) => self.plan_wanted |= self.ready.insert(key.clone(), candidate).is_none(),
            None => drop(self.ready.remove(key)),
        }
        match step {
            Step::Write(status) => {
                let (resource_version, before) = (record.run.resource_version.clone(), Box::new(record.run.status.clone()));
                self.order_for(key, Effect::WriteRun { resource_version, before, status }, out);
            }
            Step::Order(effect) => self.order_for(key, effect, out),
            Step::FillIn => self.fill_in(now, key, out),
            Step::Until(at) => self.wake(at, subject),
            Step::Rest => {}
        }
        if let Some(at) = self.runs.get(key).and_then(|record| record.run.status.next_attempt_at).filter(|at| at.0 > now) {
            self.wake(at.0, Subject::Run(key.clone()));
        } else if self.ready.get(key).and_then(|candidate| candidate.told.as_ref()).is_some_and(|why| why.0 == "Backoff") {
            self.plan_wanted = true;
        }
    }

    pub(super) fn order_for(&mut self, key: &Key, effect: Effect, out: &mut Vec<Command>) {
        let order = self.order(Subject::Run(key.clone()), effect, out);
        self.ready.remove(key);
        if let Some(record) = self.runs.get_mut(key) {
            record.order = Some(order);
        }
    }

    fn turn(&self, run: &Run, now: Timestamp) -> (Turn, Option<String>) {
        let waits = matches!(run.phase(), None | Some(Phase::Waiting));
        let replaces = concurrency::policy(run) == ConcurrencyPolicy::Replace;
        if run.is_reaped() || concurrency::is_unbounded(run) || !(waits || replaces) {
            return (Turn::Go, None);
        }
        let Some(peers) = Group::of(run).and_then(|group| self.groups.get(&group)) else { return (Turn::Go, None) };
        let turn = if waits { peers.turn(run, now) } else { Turn::Go };
        (turn, peers.replaced_by(run, now).filter(|_| replaces).map(str::to_owned))
    }

    /// The next run that follows the end of this one and does not know of it.
    fn follower(&mut self, key: &Key, now: Timestamp, out: &mut Vec<Command>) -> Option<Follower> {
        let run = &self.runs.get(key)?.run;
        let outcome = run.status.outcome.filter(|_| !run.status.followed && run.phase() >= Some(Phase::Finishing))?;
        if outcome == Outcome::Skipped {
            return None;
        }
        let (task, uid, cycle) = (run.task.clone(), run.uid.clone(), run.cycle);
        let finished = run.status.finished_at.map_or(now, |time| time.0);
        let upstream = Upstream { task: &task, uid: &uid, cycle, outcome, finished };
        let mut firings = Vec::new();
        for record in self.tasks.values().filter(|record| record.task.key.namespace == key.namespace && record.is_active()) {
            let triggers = record.task.spec.iter().flat_map(|spec| &spec.triggers);
            let firing = triggers.filter_map(|trigger| trigger.after.as_ref()).find_map(|after| after::firing(after, &upstream));
            firings.extend(firing.map(|firing| (record.task.key.clone(), firing)));
        }
        let by = Subject::Run(key.clone());
        let mut waits = false;
        let unfollowed = self.runs.get(key).map(|record| record.notes.unfollowed.clone()).unwrap_or_default();
        for (task, firing) in firings.into_iter().filter(|(task, _)| !unfollowed.contains_key(&task.name)) {
            match self.deliver(&task, &firing, &by, now) {
                Delivery::There(_) | Delivery::Settled => {}
                Delivery::Create(run) => return Some(Follower::Create(run)),
                Delivery::Recording(_) => waits = true,
                Delivery::Hold(_) => {
                    self.wake(now + super::records::retry_after(4), by.clone());
                    waits = true;
                }
                Delivery::Refused(why) => {
                    let note = format!("no run of task {} follows: {why}", task.name);
                    out.push(Command::Tell(News {
                        subject: by.clone(),
                        uid: uid.clone(),
                        kind: "Warning",
                        reason: "NotFollowed".to_owned(),
                        note,
                    }));
                }
            }
        }
        waits.then_some(Follower::Wait)
    }

    fn fill_in(&mut self, now: Timestamp, key: &Key, out: &mut Vec<Command>) {
        let Some(record) = self.runs.get(key) else { return };
        let run = &record.run;
        let task = self.tasks.get(&Key { namespace: key.namespace.clone(), name: run.task.clone() });
        // What was created together is not seen in that order: each kind has its own watch.
        let known_by = run.created + TASK_KNOWN_WITHIN;
        if task.is_none() && known_by > now {
            return self.wake(known_by, Subject::Run(key.clone()));
        }
        let made = match task.map(|record| (record, &record.task.spec)) {
            _ if record.notes.refused.is_some() => Err(("Refused", record.notes.refused.clone().unwrap_or_default())),
            None => Err(("TaskUnknown", format!("there is no task {} in this namespace", run.task))),
            Some((_, Err(why))) => Err(("TaskInvalid", format!("the task cannot be read: {why}"))),
            Some((task, Ok(_))) if !task.is_valid && task.task.status.conditions.is_empty() => return,
            Some((task, Ok(_))) if !task.is_valid => {
                let why = task.task.status.conditions.first().map(|condition| condition.message.clone()).unwrap_or_default();
                Err(("TaskInvalid", format!("no run can be made of the task: {why}")))
            }
            Some((task, Ok(spec))) => {
                let owner = Owner { namespace: &key.namespace, name: &run.task, uid: &task.task.uid, generation: task.task.generation };
                freeze::fill_in(&owner, spec, run, &self.rules)
                    .map_err(|fault| (fault.reason, format!("{}: {}", fault.path, fault.message)))
            }
        };
        let effect = match made {
            Ok(patch) => Effect::FillIn { resource_version: run.resource_version.clone(), patch: Box::new(patch) },
            Err((reason, text)) => {
                let Step::Write(status) = life::refused(run, reason, &text, now) else { return };
                Effect::WriteRun { resource_version: run.resource_version.clone(), before: Box::new(run.status.clone()), status }
            }
        };
        self.order_for(key, effect, out);
    }

    /// Who starts now. Those that do are admitted until their next write; the others know why not.
    pub(super) fn plan(&mut self, now: Timestamp) {
        self.plan_wanted = false;
        let mut used = self.tally.used().clone();
        // Those that start and whose status does not say so yet.
        for run in self.admitted.iter().filter_map(|key| self.runs.get(key)).map(|record| &record.run) {
            if let Some(frozen) = run.frozen.as_ref().filter(|_| run.phase() < Some(Phase::Launching)) {
                used.add(&frozen.account, &run.demand.requests, Some(&frozen.profile));
            }
        }
        let plan = admission::plan(now, &self.ready, used, &mut self.bucket, &self.rules);
        for key in plan.admitted {
            self.ready.remove(&key);
            self.dirty.insert(Subject::Run(key.clone()));
            self.admitted.insert(key);
        }
        for (key, why) in plan.blocked {
            if let Some(candidate) = self.ready.get_mut(&key) {
                candidate.told = Some(why.clone());
            }
            if let Some(record) = self.runs.get_mut(&key) {
                record.blocked = Some(why);
                self.dirty.insert(Subject::Run(key));
            }
        }
        self.plan_at = now + super::PLAN_EVERY;
        if plan.paced {
            self.plan_wanted = true;
            self.plan_at = self.plan_at.max(self.bucket.next(&self.rules));
        }
    }

    pub(super) fn tell_run(key: &Key, uid: &str, before: &TaskRunStatus, after: &TaskRunStatus, out: &mut Vec<Command>) {
        for (kind, reason, note) in life::transitions(before, after) {
            out.push(Command::Tell(News { subject: Subject::Run(key.clone()), uid: uid.into(), kind, reason, note }));
        }
    }

    /// Runs of a task, for retention.
    pub(super) fn runs_of(&self, task: &Key) -> impl Iterator<Item = &RunRecord> {
        let names = self.tally.runs_of(task);
        names.filter_map(|name| self.runs.get(&Key { namespace: task.namespace.clone(), name: name.into() }))
    }
}

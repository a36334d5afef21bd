//! Who starts now. In: the runs that could, what is used already, the rules. Out: those that start, and for each of the others one word and a text why not.
//!
//! Higher priority first; a run that has waited for the aging time counts as one of the next higher class, and so on. Among equals the order time counts,
//! which a run keeps whatever happens to it. One that is blocked holds up only those that are blocked by the same: its account, its profile.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    facts::{Demand, Key, Run},
    rules::Rules,
    run::Frozen,
};
use crate::model::time::Timestamp;

/// Why a run does not start: one word and a text.
pub type Why = Arc<(String, String)>;

/// A run that could start.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Whose quota counts, and its scheduling profile.
    pub frozen: Arc<Frozen>,
    /// Its priority class, and what its pod requests.
    pub demand: Arc<Demand>,
    /// Its place among equals.
    pub order: Timestamp,
    /// Not before.
    pub not_before: Option<Timestamp>,
    /// What it was told last.
    pub told: Option<Why>,
}

impl Candidate {
    /// A run as a candidate; `None` before it has taken what it takes from its task.
    pub fn of(run: &Run, told: Option<Why>) -> Option<Self> {
        let (frozen, demand) = (run.frozen.clone()?, run.demand.clone());
        Some(Self { frozen, demand, order: run.order().0, not_before: run.status.next_attempt_at.map(|time| time.0), told })
    }
}

/// What is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// By account: runs with a pod, and what these request.
    accounts: BTreeMap<Box<str>, (u32, BTreeMap<String, u128>)>,
    /// By profile: pods without a node.
    unscheduled: BTreeMap<Box<str>, u32>,
}

impl Used {
    /// A run has a pod, or is about to have one.
    pub fn add(&mut self, account: &str, requests: &BTreeMap<String, u64>, unscheduled_of: Option<&str>) {
        let (runs, sums) = self.accounts.entry(account.into()).or_default();
        *runs += 1;
        for (resource, milli) in requests.iter().filter(|(_, milli)| **milli > 0) {
            *sums.entry(resource.clone()).or_default() += u128::from(*milli);
        }
        if let Some(profile) = unscheduled_of {
            *self.unscheduled.entry(profile.into()).or_default() += 1;
        }
    }

    /// The opposite of [`Used::add`].
    pub fn remove(&mut self, account: &str, requests: &BTreeMap<String, u64>, unscheduled_of: Option<&str>) {
        if let Some((runs, sums)) = self.accounts.get_mut(account) {
            *runs = runs.saturating_sub(1);
            for (resource, milli) in requests {
                if let Some(sum) = sums.get_mut(resource) {
                    *sum = sum.saturating_sub(u128::from(*milli));
                }
            }
            sums.retain(|_, sum| *sum > 0);
            if *runs == 0 {
                self.accounts.remove(account);
            }
        }
        if let Some(profile) = unscheduled_of {
            less(&mut self.unscheduled, profile);
        }
    }
}

/// One less of something; what there is none of is forgotten.
pub(super) fn less(counts: &mut BTreeMap<Box<str>, u32>, of: &str) {
    let Some(count) = counts.get_mut(of) else {
        debug_assert!(false, "{of} was not counted");
        return;
    };
    *count = count.saturating_sub(1);
    if *count == 0 {
        counts.remove(of);
    }
}

/// Pods that may still be created: a bucket that fills with time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// In thousandths of a pod.
    milli: u64,
    at: Timestamp,
}

impl Bucket {
    fn fill(&mut self, now: Timestamp, rules: &Rules) {
        let full = u64::from(rules.pods_burst.max(1)) * 1_000;
        let more = now.since(self.at).0.saturating_mul(u64::from(rules.pods_per_second));
        self.milli = self.milli.saturating_add(more).min(full);
        self.at = now;
    }

    fn take(&mut self) -> bool {
        let has = self.milli >= 1_000;
        if has {
            self.milli -= 1_000;
        }
        has
    }

    /// When the next pod may be created.
    pub fn next(&self, rules: &Rules) -> Timestamp {
        let lacking = 1_000_u64.saturating_sub(self.milli);
        Timestamp(self.at.0 + lacking.div_ceil(u64::from(rules.pods_per_second.max(1))).max(1))
    }
}

/// Who starts and who does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// They start.
    pub admitted: Vec<Key>,
    /// They do not, and this is not what they were told last.
    pub blocked: Vec<(Key, Why)>,
    /// Some wait for pace alone.
    pub paced: bool,
}

/// Decides.
pub fn plan(now: Timestamp, candidates: &BTreeMap<Key, Candidate>, mut used: Used, bucket: &mut Bucket, rules: &Rules) -> Plan {
    bucket.fill(now, rules);
    let mut plan = Plan::default();
    let classes = classes(rules);
    let mut ranked: Vec<(Rank, &Key, &Candidate)> =
        candidates.iter().map(|(key, one)| (rank(now, one, &classes, rules), key, one)).collect();
    // Among equals they stay in the order of their keys.
    ranked.sort_by_key(|(rank, ..)| *rank);
    let paced: Why = Arc::new(("Pacing".to_owned(), format!("{} pods are created a second at most", rules.pods_per_second)));
    for (_, key, one) in ranked {
        let why = match not_yet(now, one).or_else(|| quota(one, &used, rules)).or_else(|| crowd(one, &used, rules)) {
            Some(why) => Arc::new(why),
            None if !plan.paced && bucket.take() => {
                used.add(&one.frozen.account, &one.demand.requests, Some(&one.frozen.profile));
                plan.admitted.push(key.clone());
                continue;
            }
            None => {
                plan.paced = true;
                paced.clone()
            }
        };
        if one.told.as_ref() != Some(&why) {
            plan.blocked.push((key.clone(), why));
        }
    }
    plan
}

type Rank = (std::cmp::Reverse<u64>, Timestamp);

/// Values of all classes, from the lowest.
fn classes(rules: &Rules) -> Vec<i32> {
    let mut values: Vec<i32> = rules.priorities.values().copied().chain([0]).collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// The class, counted from the lowest, higher by one for each aging time that was waited; then the order time.
fn rank(now: Timestamp, one: &Candidate, classes: &[i32], rules: &Rules) -> Rank {
    let value = rules.priorities.get(&*one.demand.priority_class).copied().unwrap_or(0);
    let class = u64::try_from(classes.partition_point(|other| *other < value)).unwrap_or(0);
    let aged = now.since(one.order).0 / rules.aging.0.max(1);
    (std::cmp::Reverse(class + aged), one.order)
}

fn not_yet(now: Timestamp, one: &Candidate) -> Option<(String, String)> {
    let at = one.not_before.filter(|at| *at > now)?;
    Some(("Backoff".to_owned(), format!("it is tried again at {}", at.to_rfc3339())))
}

fn quota(one: &Candidate, used: &Used, rules: &Rules) -> Option<(String, String)> {
    let account = one.frozen.account.as_str();
    let quota = rules.accounts.get(account)?;
    let nothing = (0, BTreeMap::new());
    let (runs, sums) = used.accounts.get(account).unwrap_or(&nothing);
    let account = if account.is_empty() { "without a name" } else { account };
    if quota.running_max.is_some_and(|most| *runs >= most) {
        return Some(("AccountQuota".to_owned(), format!("account {account} has {runs} runs, which is its quota")));
    }
    let over = |(resource, most): (&String, &u64)| {
        let (has, asks) = (sums.get(resource).copied().unwrap_or(0), one.demand.requests.get(resource).copied().unwrap_or(0).into());
        let most = u128::from(*most);
        (asks > 0 && has + asks > most)
            .then(|| format!("account {account} requests {} of {} {resource}, {} more do not fit", shown(has), shown(most), shown(asks)))
    };
    quota.requests_max.iter().find_map(over).map(|text| ("AccountQuota".to_owned(), text))
}

fn shown(milli: u128) -> String {
    if milli.is_multiple_of(1_000) { (milli / 1_000).to_string() } else { format!("{milli}m") }
}

fn crowd(one: &Candidate, used: &Used, rules: &Rules) -> Option<(String, String)> {
    let profile = one.frozen.profile.as_str();
    let waiting = used.unscheduled.get(profile).copied().unwrap_or(0);
    (waiting >= rules.unscheduled_max)
        .then(|| ("Crowded".to_owned(), format!("{waiting} pods of profile {profile} wait for a node already")))
}

/// Whether an account may submit one more run: it has so many that have not begun. The text is for the sender.
pub fn may_submit(rules: &Rules, account: &str, queued: u32, live_in_namespace: u32) -> Result<(), String> {
    if live_in_namespace >= rules.live_runs_max {
        return Err(format!("the namespace has {live_in_namespace} live runs, which is the limit: wait for some to end"));
    }
    match rules.accounts.get(account).and_then(|quota| quota.queued_max) {
        Some(most) if queued >= most => {
            Err(format!("account {account} has {queued} queued runs, which is its quota: wait for some to start"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::time::DurationMs, tasks::rules::Quota};

    const NOW: Timestamp = Timestamp(1_000_000_000);

    /// Of an account and a profile: (account, profile, class, ms that it has waited, what it requests).
    fn candidate((account, profile, class, waited_ms, milli_cpu): (&str, &str, &str, u64, u64)) -> Candidate {
        let frozen = Frozen { account: account.to_owned(), profile: profile.to_owned(), ..Frozen::default() };
        let requests = (milli_cpu > 0).then(|| ("cpu".to_owned(), milli_cpu)).into_iter().collect();
        let demand = Demand { priority_class: class.into(), requests };
        Candidate { frozen: frozen.into(), demand: demand.into(), order: NOW - DurationMs(waited_ms), not_before: None, told: None }
    }

    fn candidates<'a>(all: impl IntoIterator<Item = (&'a str, &'a str, &'a str, u64, u64)>) -> BTreeMap<Key, Candidate> {
        all.into_iter().enumerate().map(|(n, one)| (Key::new("ns", &format!("r{n:04}")), candidate(one))).collect()
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.admitted.iter().map(|key| &*key.name).collect()
    }

    #[test]
    fn priority_then_place_and_waiting_raises() {
        let rules = Rules { priorities: BTreeMap::from([("low".into(), -10), ("high".into(), 1_000)]), ..Rules::default() };
        let hour = rules.aging.0;
        let all = [("a", "p", "low", 10, 0), ("a", "p", "", 20, 0), ("a", "p", "high", 0, 0), ("a", "p", "low", 2 * hour, 0)];
        let plan = plan(NOW, &candidates(all), Used::default(), &mut Bucket::default(), &rules);
        assert_eq!(names(&plan), ["r0003", "r0002", "r0001", "r0000"]);
    }

    #[test]
    fn pace_crowd_and_quota_block_only_those_they_are_about() {
        let quota = Quota { running_max: Some(3), requests_max: BTreeMap::from([("cpu".into(), 2_000)]), ..Quota::default() };
        let rules = Rules { accounts: BTreeMap::from([("radar".into(), quota)]), unscheduled_max: 2, pods_burst: 4, ..Rules::default() };
        let mut all = candidates([
            ("radar", "p", "", 9, 1_500),
            ("radar", "p", "", 8, 1_500),
            ("radar", "p", "", 7, 0),
            ("radar", "p", "", 6, 0),
            ("radar", "q", "", 5, 0),
            ("other", "q", "", 4, 0),
        ]);
        let made = plan(NOW, &all, Used::default(), &mut Bucket::default(), &rules);
        assert_eq!(names(&made), ["r0000", "r0002", "r0004", "r0005"]);
        let why: Vec<(&str, &str)> = made.blocked.iter().map(|(_, why)| (why.0.as_str(), why.1.as_str())).collect();
        assert_eq!(why[0], ("AccountQuota", "account radar requests 1500m of 2 cpu, 1500m more do not fit"));
        assert_eq!(why[1], ("Crowded", "2 pods of profile p wait for a node already"));
        // Who was told is not told again.
        for (key, why) in made.blocked {
            all.get_mut(&key).unwrap().told = Some(why);
        }
        assert_eq!(plan(NOW, &all, Used::default(), &mut Bucket::default(), &rules).blocked, []);
    }

    #[test]
    fn what_is_given_back_leaves_nothing() {
        let asks = |resource: &str, milli| BTreeMap::from([(resource.to_owned(), milli)]);
        let (mut used, mut other) = (Used::default(), Used::default());
        used.add("a", &asks("cpu", 500), Some("p"));
        used.add("a", &asks("memory", 0), None);
        used.remove("a", &asks("cpu", 500), Some("p"));
        other.add("a", &asks("memory", 0), None);
        assert_eq!(used, other);
        used.remove("a", &asks("memory", 0), None);
        assert_eq!(used, Used::default());
    }

    #[test]
    fn the_bucket_fills_with_time() {
        let rules = Rules { pods_burst: 10, pods_per_second: 20, unscheduled_max: 1_000, ..Rules::default() };
        let mut bucket = Bucket::default();
        let all = candidates([("a", "p", "", 0, 0); 100]);
        let first = plan(NOW, &all, Used::default(), &mut bucket, &rules);
        assert_eq!((first.admitted.len(), first.paced), (10, true));
        assert_eq!(bucket.next(&rules), NOW + DurationMs(50));
        assert_eq!(plan(NOW + DurationMs(49), &all, Used::default(), &mut bucket, &rules).admitted.len(), 0);
        assert_eq!(plan(NOW + DurationMs(50), &all, Used::default(), &mut bucket, &rules).admitted.len(), 1);
        assert_eq!(plan(NOW + DurationMs(300), &all, Used::default(), &mut bucket, &rules).admitted.len(), 5);
    }

    #[test]
    fn submission_is_refused_in_words() {
        let quota = Quota { queued_max: Some(2), ..Quota::default() };
        let rules = Rules { accounts: BTreeMap::from([("radar".into(), quota)]), live_runs_max: 10, ..Rules::default() };
        assert_eq!(may_submit(&rules, "radar", 1, 9), Ok(()));
        assert!(may_submit(&rules, "radar", 2, 9).unwrap_err().contains("account radar has 2 queued runs"));
        assert!(may_submit(&rules, "other", 2, 10).unwrap_err().contains("10 live runs"));
    }
}

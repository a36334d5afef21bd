//! Who starts now. In: the runs that could, what is used already, the rules. Out: those that start, and for each of the others one word and a text why not.
//!
//! Higher priority first; a run that has waited for the aging time counts as one of the next higher class, and so on. Among equals the order time counts,
//! which a run keeps whatever happens to it. One that is blocked holds up only those that are blocked by the same: its account, its profile.

use std::collections::BTreeMap;

use super::{facts::Key, rules::Rules};
use crate::model::time::Timestamp;

/// A run that could start.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// The run.
    pub key: &'a Key,
    /// Whose quota counts.
    pub account: &'a str,
    /// Scheduling profile.
    pub profile: &'a str,
    /// Name of its priority class.
    pub priority_class: &'a str,
    /// Its place among equals.
    pub order: Timestamp,
    /// Not before.
    pub not_before: Option<Timestamp>,
    /// What its pod requests, in thousandths.
    pub requests: &'a BTreeMap<String, u64>,
}

/// What is used.
#[derive(Clone, Debug, Default)]
pub struct Used {
    /// By account: runs with a pod, and what these request.
    pub accounts: BTreeMap<String, (u32, BTreeMap<String, u64>)>,
    /// By profile: pods without a node.
    pub unscheduled: BTreeMap<String, u32>,
}

impl Used {
    /// A run has a pod, or is about to have one.
    pub fn add(&mut self, account: &str, requests: &BTreeMap<String, u64>, unscheduled_of: Option<&str>) {
        let (runs, sums) = self.accounts.entry(account.to_owned()).or_default();
        *runs += 1;
        for (resource, milli) in requests {
            let sum = sums.entry(resource.clone()).or_default();
            *sum = sum.saturating_add(*milli);
        }
        if let Some(profile) = unscheduled_of {
            *self.unscheduled.entry(profile.to_owned()).or_default() += 1;
        }
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
    /// They do not: one word and a text.
    pub blocked: Vec<(Key, (String, String))>,
    /// Some wait for pace alone.
    pub paced: bool,
}

/// Decides.
pub fn plan(now: Timestamp, candidates: Vec<Candidate>, mut used: Used, bucket: &mut Bucket, rules: &Rules) -> Plan {
    bucket.fill(now, rules);
    let mut plan = Plan::default();
    let mut ranked: Vec<((std::cmp::Reverse<u64>, Timestamp), Candidate)> =
        candidates.into_iter().map(|one| (rank(now, &one, rules), one)).collect();
    ranked.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.key.cmp(other.key)));
    let mut exhausted = false;
    for (_, one) in ranked {
        let why = match not_yet(now, &one).or_else(|| quota(&one, &used, rules)).or_else(|| crowd(&one, &used, rules)) {
            Some(why) => why,
            None if !exhausted && bucket.take() => {
                used.add(one.account, one.requests, Some(one.profile));
                plan.admitted.push(one.key.clone());
                continue;
            }
            None => {
                exhausted = true;
                plan.paced = true;
                ("Pacing".to_owned(), format!("{} pods are created a second at most", rules.pods_per_second))
            }
        };
        plan.blocked.push((one.key.clone(), why));
    }
    plan
}

/// The class, counted from the lowest, higher by one for each aging time that was waited; then the order time.
fn rank(now: Timestamp, one: &Candidate, rules: &Rules) -> (std::cmp::Reverse<u64>, Timestamp) {
    let value = rules.priorities.get(one.priority_class).copied().unwrap_or(0);
    let mut values: Vec<i32> = rules.priorities.values().copied().chain([0]).collect();
    values.sort_unstable();
    values.dedup();
    let class = u64::try_from(values.partition_point(|other| *other < value)).unwrap_or(0);
    let aged = now.since(one.order).0 / rules.aging.0.max(1);
    (std::cmp::Reverse(class + aged), one.order)
}

fn not_yet(now: Timestamp, one: &Candidate) -> Option<(String, String)> {
    let at = one.not_before.filter(|at| *at > now)?;
    Some(("Backoff".to_owned(), format!("it is tried again at {}", at.to_rfc3339())))
}

fn quota(one: &Candidate, used: &Used, rules: &Rules) -> Option<(String, String)> {
    let quota = rules.accounts.get(one.account)?;
    let nothing = (0, BTreeMap::new());
    let (runs, sums) = used.accounts.get(one.account).unwrap_or(&nothing);
    let account = if one.account.is_empty() { "without a name" } else { one.account };
    if quota.running_max.is_some_and(|most| *runs >= most) {
        return Some(("AccountQuota".to_owned(), format!("account {account} has {runs} runs, which is its quota")));
    }
    let over = |(resource, most): (&String, &u64)| {
        let (has, asks) = (sums.get(resource).copied().unwrap_or(0), one.requests.get(resource).copied().unwrap_or(0));
        (asks > 0 && has.saturating_add(asks) > *most)
            .then(|| format!("account {account} requests {} of {} {resource}, {} more do not fit", shown(has), shown(*most), shown(asks)))
    };
    quota.requests_max.iter().find_map(over).map(|text| ("AccountQuota".to_owned(), text))
}

fn shown(milli: u64) -> String {
    if milli.is_multiple_of(1_000) { (milli / 1_000).to_string() } else { format!("{milli}m") }
}

fn crowd(one: &Candidate, used: &Used, rules: &Rules) -> Option<(String, String)> {
    let waiting = used.unscheduled.get(one.profile).copied().unwrap_or(0);
    (waiting >= rules.unscheduled_max)
        .then(|| ("Crowded".to_owned(), format!("{waiting} pods of profile {} wait for a node already", one.profile)))
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

    fn keys(count: usize) -> Vec<Key> {
        (0..count).map(|n| Key::new("ns", &format!("r{n:04}"))).collect()
    }

    fn candidate<'a>(key: &'a Key, class: &'a str, waited_ms: u64, requests: &'a BTreeMap<String, u64>) -> Candidate<'a> {
        let order = NOW - DurationMs(waited_ms);
        Candidate { key, account: "radar", profile: "p", priority_class: class, order, not_before: None, requests }
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.admitted.iter().map(|key| &*key.name).collect()
    }

    #[test]
    fn priority_then_place_and_waiting_raises() {
        let (keys, none) = (keys(4), BTreeMap::new());
        let rules = Rules { priorities: BTreeMap::from([("low".into(), -10), ("high".into(), 1_000)]), ..Rules::default() };
        let hour = rules.aging.0;
        let all = vec![
            candidate(&keys[0], "low", 10, &none),
            candidate(&keys[1], "", 20, &none),
            candidate(&keys[2], "high", 0, &none),
            candidate(&keys[3], "low", 2 * hour, &none),
        ];
        let plan = plan(NOW, all, Used::default(), &mut Bucket::default(), &rules);
        assert_eq!(names(&plan), ["r0003", "r0002", "r0001", "r0000"]);
    }

    #[test]
    fn pace_crowd_and_quota_block_only_those_they_are_about() {
        let (keys, none) = (keys(6), BTreeMap::new());
        let cpu = BTreeMap::from([("cpu".to_owned(), 1_500)]);
        let quota = Quota { running_max: Some(3), requests_max: BTreeMap::from([("cpu".into(), 2_000)]), ..Quota::default() };
        let rules = Rules { accounts: BTreeMap::from([("radar".into(), quota)]), unscheduled_max: 2, pods_burst: 4, ..Rules::default() };
        let mut all = vec![candidate(&keys[0], "", 9, &cpu), candidate(&keys[1], "", 8, &cpu), candidate(&keys[2], "", 7, &none)];
        all.push(candidate(&keys[3], "", 6, &none));
        all.push(Candidate { profile: "q", ..candidate(&keys[4], "", 5, &none) });
        all.push(Candidate { account: "other", profile: "q", ..candidate(&keys[5], "", 4, &none) });
        let made = plan(NOW, all, Used::default(), &mut Bucket::default(), &rules);
        assert_eq!(names(&made), ["r0000", "r0002", "r0004", "r0005"]);
        let why: Vec<(&str, &str)> = made.blocked.iter().map(|(_, (reason, text))| (reason.as_str(), text.as_str())).collect();
        assert_eq!(why[0], ("AccountQuota", "account radar requests 1500m of 2 cpu, 1500m more do not fit"));
        assert_eq!(why[1], ("Crowded", "2 pods of profile p wait for a node already"));
    }

    #[test]
    fn the_bucket_fills_with_time() {
        let (keys, none) = (keys(100), BTreeMap::new());
        let rules = Rules { pods_burst: 10, pods_per_second: 20, unscheduled_max: 1_000, ..Rules::default() };
        let mut bucket = Bucket::default();
        let all = || keys.iter().map(|key| candidate(key, "", 0, &none)).collect::<Vec<_>>();
        let first = plan(NOW, all(), Used::default(), &mut bucket, &rules);
        assert_eq!((first.admitted.len(), first.paced), (10, true));
        assert_eq!(bucket.next(&rules), NOW + DurationMs(50));
        assert_eq!(plan(NOW + DurationMs(49), all(), Used::default(), &mut bucket, &rules).admitted.len(), 0);
        assert_eq!(plan(NOW + DurationMs(50), all(), Used::default(), &mut bucket, &rules).admitted.len(), 1);
        assert_eq!(plan(NOW + DurationMs(300), all(), Used::default(), &mut bucket, &rules).admitted.len(), 5);
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

//! The queue against a list that does everything the slow and obvious way: random histories in, the same answers and nobody lost out.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::ids::PodKey;

/// So few, that operations meet.
const PODS: u8 = 12;

fn pod(number: u8, class: u32, priority: i32) -> QueuedPod {
    QueuedPod {
        key: PodKey::new("ns", &format!("pod-{number}")),
        uid: PodUid::from(format!("uid-{number}").as_str()),
        class: ClassIx(class),
        profile: ProfileIx(0),
        priority,
        gates: Box::default(),
        condition: None,
        first_queued: None,
        queued: Timestamp(0),
        attempts: 0,
        unschedulable_count: 0,
        errors_in_a_row: 0,
        flushed: false,
        nominated: None,
        nominated_seen: Box::default(),
        run_attempt: 0,
        created: Timestamp(0),
        unclear_binding: None,
    }
}

/// Where the list says that a pod is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    Active(SortKey),
    Backoff { until: u64, error: bool },
    Unschedulable { group: (u32, u64), since: u64 },
    Gated,
}

/// One pod of the list; the list itself is in order of arrival.
#[derive(Clone, Debug)]
struct Listed {
    number: u8,
    place: Where,
}

/// The slow and obvious queue, and the pods that are out of it.
#[derive(Default)]
struct Model {
    listed: Vec<Listed>,
    /// Failures so far and failures without blame in a row, by pod: they outlive its stays in the queue.
    failures: BTreeMap<u8, (u32, u32)>,
    attempts: BTreeMap<u8, u32>,
    first_queued: BTreeMap<u8, u64>,
}

impl Model {
    fn has(&self, number: u8) -> bool {
        self.listed.iter().any(|listed| listed.number == number)
    }

    fn put(&mut self, number: u8, place: Where) {
        self.listed.push(Listed { number, place });
    }

    /// Takes out those of a kind, the smallest rank first, arrival deciding among equals.
    fn take<R: Ord>(&mut self, rank: impl Fn(&Where) -> Option<R>) -> Vec<u8> {
        let mut taken: Vec<(R, usize)> =
            self.listed.iter().enumerate().filter_map(|(at, listed)| Some((rank(&listed.place)?, at))).collect();
        taken.sort();
        let numbers: Vec<u8> = taken.iter().map(|(_, at)| self.listed[*at].number).collect();
        self.listed.retain(|listed| !numbers.contains(&listed.number));
        numbers
    }

    fn first<R: Ord>(&self, rank: impl Fn(&Where) -> Option<R>) -> Option<u8> {
        let ranked = self.listed.iter().enumerate().filter_map(|(at, listed)| Some((rank(&listed.place)?, at)));
        ranked.min().map(|(_, at)| self.listed[at].number)
    }

    fn next(&self) -> Option<u8> {
        let active = self.first(|place| if let Where::Active(key) = place { Some(*key) } else { None });
        active.or_else(|| self.first(|place| if let Where::Backoff { until, error: false } = place { Some(*until) } else { None }))
    }

    fn wait_seconds(&self, number: u8) -> u64 {
        let (blamed, errors) = self.failures.get(&number).copied().unwrap_or_default();
        match if errors > 0 { errors } else { blamed } {
            0 => 0,
            failures => [1, 2, 4, 8, 10][(failures as usize - 1).min(4)],
        }
    }

    fn sizes(&self) -> (usize, usize, usize, usize) {
        let count = |is: fn(&Where) -> bool| self.listed.iter().filter(|listed| is(&listed.place)).count();
        (
            count(|place| matches!(place, Where::Active(_))),
            count(|place| matches!(place, Where::Backoff { .. })),
            count(|place| matches!(place, Where::Unschedulable { .. })),
            count(|place| matches!(place, Where::Gated)),
        )
    }

    fn next_wake(&self) -> Option<u64> {
        let wakes = self.listed.iter().filter_map(|listed| match listed.place {
            Where::Backoff { until, .. } => Some(until),
            Where::Unschedulable { since, .. } => Some(since + FLUSH_AFTER.0 + 1),
            Where::Active(_) | Where::Gated => None,
        });
        wakes.min()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Active { pod: u8, key: SortKey },
    Gated { pod: u8 },
    Unschedulable { pod: u8, class: u32, rejectors: u64 },
    Backoff { pod: u8, error: bool },
    Pop,
    Remove { pod: u8 },
    Group { class: u32, rejectors: u64 },
    Expired,
    Stale,
    Wait { ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let numbered = || 0..PODS;
    let group = || (0..2_u32, 1..3_u64);
    let step = prop_oneof![
        3 => (numbered(), -2..2_i64, 0..3_u64).prop_map(|(pod, rank, time)| Step::Active { pod, key: (rank, time) }),
        1 => numbered().prop_map(|pod| Step::Gated { pod }),
        3 => (numbered(), group()).prop_map(|(pod, (class, rejectors))| Step::Unschedulable { pod, class, rejectors }),
        3 => (numbered(), any::<bool>()).prop_map(|(pod, error)| Step::Backoff { pod, error }),
        4 => Just(Step::Pop),
        2 => numbered().prop_map(|pod| Step::Remove { pod }),
        1 => group().prop_map(|(class, rejectors)| Step::Group { class, rejectors }),
        2 => Just(Step::Expired),
        2 => Just(Step::Stale),
        4 => prop_oneof![0..1500_u64, 5000..12_000_u64, 299_000..301_000_u64].prop_map(|ms| Step::Wait { ms }),
    ];
    prop::collection::vec(step, 0..80)
}

/// The queue, the list, and the time.
struct Pair {
    queue: Queue,
    model: Model,
    now: u64,
}

impl Pair {
    fn new() -> Self {
        // Not a whole second, so that rounding shows.
        Self { queue: Queue::new(Backoff::default()), model: Model::default(), now: 1_000_700 }
    }

    /// The record of a pod with the history that the list kept.
    fn record(&self, number: u8, class: u32) -> QueuedPod {
        let (unschedulable_count, errors_in_a_row) = self.model.failures.get(&number).copied().unwrap_or_default();
        QueuedPod {
            unschedulable_count,
            errors_in_a_row,
            queued: Timestamp(self.now),
            attempts: self.model.attempts.get(&number).copied().unwrap_or(0),
            first_queued: self.model.first_queued.get(&number).copied().map(Timestamp),
            ..pod(number, class, 0)
        }
    }

    fn push(&mut self, step: &Step) {
        match *step {
            Step::Active { pod, key } => {
                self.queue.push_active(self.record(pod, 0), key, Timestamp(self.now));
                self.model.first_queued.entry(pod).or_insert(self.now);
                self.model.put(pod, Where::Active(key));
            }
            Step::Gated { pod } => {
                self.queue.push_gated(self.record(pod, 0));
                self.model.put(pod, Where::Gated);
            }
            Step::Unschedulable { pod, class, rejectors } => {
                self.model.failures.entry(pod).or_default().0 += 1;
                self.model.failures.entry(pod).or_default().1 = 0;
                self.queue.push_unschedulable(self.record(pod, class), Rejectors(rejectors));
                self.model.put(pod, Where::Unschedulable { group: (class, rejectors), since: self.now });
            }
            Step::Backoff { pod, error } => {
                let failures = self.model.failures.entry(pod).or_default();
                *failures = if error { (failures.0, failures.1 + 1) } else { (failures.0 + 1, 0) };
                self.queue.push_backoff(self.record(pod, 0));
                let until = (self.now + self.model.wait_seconds(pod) * 1000) / 1000 * 1000;
                self.model.put(pod, Where::Backoff { until, error });
            }
            Step::Pop | Step::Remove { .. } | Step::Group { .. } | Step::Expired | Step::Stale | Step::Wait { .. } => {}
        }
    }

    fn apply(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let now = Timestamp(self.now);
        match *step {
            Step::Active { pod, .. } | Step::Gated { pod } | Step::Unschedulable { pod, .. } | Step::Backoff { pod, .. } => {
                // The engine takes a pod out before it puts it elsewhere; a second push is a bug of its own.
                if !self.model.has(pod) {
                    self.push(step);
                }
            }
            Step::Pop => {
                let next = self.model.next();
                prop_assert_eq!(self.queue.has_next(), next.is_some());
                let popped = self.queue.pop();
                prop_assert_eq!(popped.as_ref().map(number), next);
                if let (Some(popped), Some(next)) = (popped, next) {
                    self.model.listed.retain(|listed| listed.number != next);
                    let attempts = self.model.attempts.entry(next).or_default();
                    *attempts += 1;
                    prop_assert_eq!(popped.attempts, *attempts);
                    prop_assert_eq!(popped.first_queued.map(|time| time.0), self.model.first_queued.get(&next).copied());
                }
            }
            Step::Remove { pod } => {
                let removed = self.queue.remove(&uid(pod));
                prop_assert_eq!(removed.is_some(), self.model.has(pod));
                self.model.listed.retain(|listed| listed.number != pod);
            }
            Step::Group { class, rejectors } => {
                let wanted = self
                    .model
                    .take(|place| matches!(place, Where::Unschedulable { group, .. } if *group == (class, rejectors)).then_some(()));
                let taken = self.queue.take_group((ProfileIx(0), ClassIx(class), Rejectors(rejectors)));
                prop_assert_eq!(numbers(&taken), wanted, "a group is taken in order of arrival");
            }
            Step::Expired => {
                let over = |wanted: bool| {
                    move |place: &Where| match place {
                        Where::Backoff { until, error } if *error == wanted && *until <= now.0 => Some(*until),
                        _ => None,
                    }
                };
                let wanted = [self.model.take(over(false)), self.model.take(over(true))].concat();
                prop_assert_eq!(numbers(&self.queue.take_expired(now)), wanted);
            }
            Step::Stale => {
                let groups: BTreeMap<u8, u64> = self.model.listed.iter().filter_map(blame).collect();
                let wanted = self.model.take(|place| match place {
                    Where::Unschedulable { since, .. } if now.0 - since > 300_000 => Some(*since),
                    _ => None,
                });
                let taken = self.queue.take_stale(now);
                prop_assert_eq!(taken.iter().map(|(pod, _)| number(pod)).collect::<Vec<_>>(), wanted);
                for (pod, rejectors) in &taken {
                    prop_assert_eq!(groups.get(&number(pod)).copied(), Some(rejectors.0), "a stale pod is told with those who refused it");
                }
            }
            Step::Wait { ms } => self.now += ms,
        }
        Ok(())
    }

    /// Everything that can be read of the queue is what the list says.
    fn compare(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.queue.consistency_check(), Vec::<String>::new());
        prop_assert_eq!(self.queue.sizes(), self.model.sizes());
        prop_assert_eq!(self.queue.next_wake().map(|time| time.0), self.model.next_wake());
        prop_assert_eq!(self.queue.has_unschedulable(), self.model.sizes().2 > 0);
        let mut held: Vec<u8> = self.queue.iter().map(number).collect();
        let mut wanted: Vec<u8> = self.model.listed.iter().map(|listed| listed.number).collect();
        held.sort_unstable();
        wanted.sort_unstable();
        prop_assert_eq!(held, wanted, "nobody is lost and nobody is there twice");
        for listed in &self.model.listed {
            let uid = uid(listed.number);
            prop_assert!(self.queue.contains(&uid) && self.queue.get(&uid).is_some());
            prop_assert_eq!(self.queue.is_gated(&uid), listed.place == Where::Gated);
            prop_assert_eq!(self.queue.rejectors(&uid).map(|rejectors| rejectors.0), blame(listed).map(|(_, rejectors)| rejectors));
        }
        let mut groups: Vec<(u32, u64)> = self.model.listed.iter().filter_map(group).collect();
        groups.sort_unstable();
        groups.dedup();
        let kept: Vec<(u32, u64)> = self.queue.groups().into_iter().map(|(_, class, rejectors)| (class.0, rejectors.0)).collect();
        prop_assert_eq!(kept, groups);
        Ok(())
    }
}

fn uid(number: u8) -> PodUid {
    PodUid::from(format!("uid-{number}").as_str())
}

fn number(pod: &QueuedPod) -> u8 {
    pod.uid.0.trim_start_matches("uid-").parse().unwrap_or(u8::MAX)
}

fn numbers(pods: &[QueuedPod]) -> Vec<u8> {
    pods.iter().map(number).collect()
}

fn group(listed: &Listed) -> Option<(u32, u64)> {
    if let Where::Unschedulable { group, .. } = listed.place { Some(group) } else { None }
}

fn blame(listed: &Listed) -> Option<(u8, u64)> {
    group(listed).map(|(_, rejectors)| (listed.number, rejectors))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_equals_a_plain_list(steps in steps()) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.apply(step)?;
            pair.compare()?;
        }
        // Whatever happened, everybody comes out in the end, once.
        let waiting = pair.model.listed.len();
        let gated: Vec<u8> = pair.model.take(|place| (*place == Where::Gated).then_some(()));
        for gated in &gated {
            pair.queue.remove(&uid(*gated));
        }
        let end = Timestamp(pair.now + FLUSH_AFTER.0 + 11_000);
        let mut out = gated.len() + pair.queue.take_expired(end).len() + pair.queue.take_stale(end).len();
        while pair.queue.pop().is_some() {
            out += 1;
        }
        prop_assert_eq!(out, waiting);
        prop_assert_eq!(pair.queue.sizes(), (0, 0, 0, 0));
    }
}

#[test]
fn backoff_doubles_to_ten_seconds_and_ends_on_a_whole_second() {
    let bounds = Backoff::default();
    for (failures, seconds) in [(0, 0), (1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (6, 10), (63, 10), (64, 10), (65, 10), (u32::MAX, 10)] {
        let mut pod = pod(0, 0, 0);
        (pod.queued, pod.unschedulable_count) = (Timestamp(5_999), failures);
        let expiry = if failures == 0 { 5_999 } else { 5_000 + seconds * 1000 };
        assert_eq!(bounds.expiry(&pod).0, expiry, "{failures} failures with blame");
        (pod.unschedulable_count, pod.errors_in_a_row) = (0, failures);
        assert_eq!(bounds.expiry(&pod).0, expiry, "{failures} errors");
    }
}

#[test]
fn errors_in_a_row_count_for_themselves() {
    let mut pod = pod(0, 0, 0);
    (pod.unschedulable_count, pod.errors_in_a_row) = (5, 1);
    assert_eq!(Backoff::default().expiry(&pod), Timestamp(1000), "the first error waits a second whatever happened before");
}

#[test]
fn other_bounds_hold_and_none_means_none() {
    let mut pod = pod(0, 0, 0);
    pod.unschedulable_count = 3;
    for (initial, max, ms) in [(2, 60, 8_000), (2, 5, 5_000), (1, 0, 0), (1, 4, 4_000)] {
        let bounds = Backoff { initial: DurationMs::from_secs(initial), max: DurationMs::from_secs(max) };
        assert_eq!(bounds.expiry(&pod).0, ms, "{initial} s to {max} s");
    }
}

#[test]
fn a_pod_backs_off_until_its_time_and_not_a_millisecond_longer() {
    let queue = Queue::new(Backoff::default());
    let mut pod = pod(0, 0, 0);
    (pod.queued, pod.unschedulable_count) = (Timestamp(10_000), 1);
    assert!(queue.backing_off(&pod, Timestamp(10_999)));
    assert!(!queue.backing_off(&pod, Timestamp(11_000)));
}

#[test]
fn an_idle_queue_takes_a_backing_off_pod_early_but_never_one_with_an_error() {
    let mut queue = Queue::new(Backoff::default());
    let (mut refused, mut broken) = (pod(1, 0, 0), pod(2, 0, 0));
    (refused.unschedulable_count, broken.errors_in_a_row) = (1, 1);
    queue.push_backoff(broken);
    assert!(!queue.has_next());
    assert!(queue.pop().is_none());
    queue.push_backoff(refused);
    assert_eq!(queue.pop().as_ref().map(number), Some(1));
    assert!(queue.pop().is_none());
    assert_eq!(numbers(&queue.take_expired(Timestamp(1000))), [2]);
}

#[test]
fn the_flush_comes_after_five_minutes_and_a_millisecond() {
    let mut queue = Queue::new(Backoff::default());
    queue.push_unschedulable(pod(1, 0, 0), Rejectors(1));
    assert_eq!(queue.next_wake(), Some(Timestamp(300_001)));
    assert!(queue.take_stale(Timestamp(300_000)).is_empty());
    assert_eq!(queue.take_stale(Timestamp(300_001)).len(), 1);
}

#[test]
fn rejectors_keep_each_plugin_and_their_order() {
    let mut rejectors = Rejectors::default();
    assert!(rejectors.is_empty());
    for plugin in [63, 0, 7, 7] {
        rejectors.insert(plugin);
    }
    assert_eq!(rejectors.iter().collect::<Vec<_>>(), [0, 7, 63]);
}

#[test]
fn slots_are_reused() {
    let mut queue = Queue::new(Backoff::default());
    for round in 0..100_u64 {
        queue.push_active(pod(1, 0, 0), (0, round), Timestamp(round));
        queue.push_gated(pod(2, 0, 0));
        assert!(queue.pop().is_some() && queue.remove(&uid(2)).is_some());
    }
    assert_eq!(queue.entries.len(), 2);
}

//! The rules one by one, and two candidates with skewed clocks, delays and lost answers against one API server.

use proptest::prelude::*;

use super::*;

fn settings(identity: &str) -> ElectionSettings {
    ElectionSettings::new(identity.to_owned(), "kube-system", "isobar-scheduler")
}

fn seen(holder: &str, duration_seconds: u64, since: u64) -> Observed {
    let record =
        LeaseRecord { holder: holder.to_owned(), duration_seconds, transitions: 4, acquired: "then".to_owned(), ..LeaseRecord::default() };
    Observed { record, resource_version: "1".to_owned(), since: Duration::from_secs(since) }
}

#[test]
fn steps_follow_who_holds_and_for_how_long() {
    for (observed, now, want) in [
        (None, 0, Step::Create),
        (Some(seen("me", 15, 0)), 100, Step::Renew),
        (Some(seen("", 15, 0)), 0, Step::Take),
        (Some(seen("other", 15, 10)), 24, Step::Wait),
        (Some(seen("other", 15, 10)), 25, Step::Take),
        // The holder's own duration counts, not ours.
        (Some(seen("other", 60, 10)), 69, Step::Wait),
    ] {
        assert_eq!(decide(observed.as_ref(), "me", Duration::from_secs(now)), want, "{observed:?} at {now}");
    }
}

#[test]
fn an_unchanged_lease_keeps_its_age() {
    let first = seen("other", 15, 3);
    let again = observe(Some(first.clone()), first.record.clone(), "2".to_owned(), Duration::from_secs(9));
    assert_eq!((again.since.as_secs(), again.resource_version.as_str()), (3, "2"));
    let renewed = LeaseRecord { renewed: "later".to_owned(), ..first.record.clone() };
    assert_eq!(observe(Some(first), renewed, "3".to_owned(), Duration::from_secs(9)).since.as_secs(), 9);
}

#[test]
fn records_count_changes_of_hands() {
    let before = seen("other", 15, 0).record;
    let taken = next_record(&Step::Take, Some(&before), &settings("me"), "now");
    assert_eq!((taken.holder.as_str(), taken.transitions, taken.acquired.as_str(), taken.duration_seconds), ("me", 5, "now", 15));
    let renewed = next_record(&Step::Renew, Some(&taken), &settings("me"), "later");
    assert_eq!((renewed.transitions, renewed.acquired.as_str(), renewed.renewed.as_str()), (5, "now", "later"));
    assert_eq!(next_record(&Step::Create, None, &settings("me"), "now").transitions, 0);
    let given_up = released(&renewed, "end");
    assert_eq!((given_up.holder.as_str(), given_up.duration_seconds, given_up.transitions), ("", 1, 5));
}

#[test]
fn spans_that_cannot_work_are_named() {
    let with = |lease: u64, renew: u64, retry: u64| ElectionSettings {
        lease_duration: Duration::from_secs(lease),
        renew_deadline: Duration::from_secs(renew),
        retry_period: Duration::from_secs(retry),
        ..settings("me")
    };
    assert_eq!(with(15, 10, 2).problem(), None);
    for (lease, renew, retry) in [(10, 10, 2), (15, 10, 9), (15, 10, 0), (15, 2, 2)] {
        assert!(with(lease, renew, retry).problem().is_some(), "{lease} {renew} {retry}");
    }
}

// === two candidates ===

/// What happens to one request.
#[derive(Clone, Copy, Debug)]
struct Luck {
    /// Milliseconds until it reaches the server, and until the answer is back.
    there: u64,
    back: u64,
    /// The request, or its answer, is lost.
    lost_there: bool,
    lost_back: bool,
    /// Milliseconds for which the candidate stands still afterwards (a stopped process).
    pause: u64,
}

fn luck() -> impl Strategy<Value = Luck> {
    let delay = || prop_oneof![4 => 0_u64..50, 1 => 0_u64..6000];
    let pause = prop_oneof![8 => Just(0_u64), 1 => 0_u64..30_000];
    (delay(), delay(), prop::bool::weighted(0.1), prop::bool::weighted(0.1), pause)
        .prop_map(|(there, back, lost_there, lost_back, pause)| Luck { there, back, lost_there, lost_back, pause })
}

/// A candidate: the same steps as the loop in `lease.rs`, with every instant written down.
struct Candidate {
    settings: ElectionSettings,
    observed: Option<Observed>,
    /// Global milliseconds of the next try.
    at: u64,
    /// Own clock = offset + rate x global time.
    offset: u64,
    rate_percent: u64,
    /// Global spans in which it believes to lead.
    believes: Vec<(u64, u64)>,
    writes: u32,
}

impl Candidate {
    fn local(&self, global: u64) -> Duration {
        Duration::from_millis(self.offset + global * self.rate_percent / 100)
    }

    /// One try: read, decide, write. Returns when it is over.
    fn try_once(&mut self, server: &mut Server, luck: [Luck; 2]) {
        let [reading, writing] = luck;
        let timeout = millis(self.settings.renew_deadline / 2) * 100 / self.rate_percent;
        let read_at = self.at + reading.there;
        let read_done = (read_at + reading.back).min(self.at + timeout);
        if reading.lost_there || reading.lost_back || read_at + reading.back > self.at + timeout {
            return self.again(self.at + timeout, reading.pause);
        }
        let read = server.read_at(read_at);
        self.observed = read.map(|(record, version)| observe(self.observed.take(), record, version.to_string(), self.local(read_done)));
        let step = decide(self.observed.as_ref(), &self.settings.identity, self.local(read_done));
        if step == Step::Wait {
            return self.again(read_done, reading.pause);
        }
        let sent = read_done + reading.pause;
        self.writes += 1;
        let record = next_record(
            &step,
            self.observed.as_ref().map(|seen| &seen.record),
            &self.settings,
            &format!("{}{}", self.settings.identity, self.writes),
        );
        let written_at = sent + writing.there;
        let done = written_at + writing.back;
        let expects = self.observed.as_ref().map(|seen| seen.resource_version.parse().unwrap());
        let written = !writing.lost_there && server.write_at(written_at, expects, record.clone());
        if written && !writing.lost_back && done <= sent + timeout {
            let until = sent + millis(self.settings.renew_deadline) * 100 / self.rate_percent;
            if done < until {
                self.believes.push((done, until));
            }
            self.observed = Some(observe(self.observed.take(), record, server.version.to_string(), self.local(done)));
            return self.again(done, writing.pause);
        }
        self.again(sent + timeout, writing.pause);
    }

    fn again(&mut self, from: u64, pause: u64) {
        self.at = from + pause + millis(self.settings.retry_period) * 100 / self.rate_percent;
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}

/// Compare-and-swap over a history, so that requests may overlap: a write lands at its own time or, if that is past, right after the last one.
#[derive(Default)]
struct Server {
    history: Vec<(u64, LeaseRecord, u64)>,
    version: u64,
}

impl Server {
    fn read_at(&self, time: u64) -> Option<(LeaseRecord, u64)> {
        self.history.iter().rev().find(|(at, _, _)| *at <= time).map(|(_, record, version)| (record.clone(), *version))
    }

    fn write_at(&mut self, time: u64, expects: Option<u64>, record: LeaseRecord) -> bool {
        let last = self.history.last().map(|(at, _, version)| (*at, *version));
        if last.map(|(_, version)| version) != expects || last.is_some_and(|(at, _)| at > time) {
            return false;
        }
        self.version += 1;
        self.history.push((time, record, self.version));
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Clocks may start anywhere and differ in rate by a fifth; the spans differ by half.
    #[test]
    fn two_never_believe_at_once(
        tries in prop::collection::vec([luck(), luck()], 10..120),
        offsets in [0_u64..1_000_000_000, 0_u64..1_000_000_000],
        rates in [90_u64..=110, 90_u64..=110],
    ) {
        let mut server = Server::default();
        let mut candidates: Vec<Candidate> = ["a", "b"].iter().zip(offsets).zip(rates).map(|((name, offset), rate_percent)| Candidate {
            settings: settings(name), observed: None, at: 0, offset, rate_percent, believes: Vec::new(), writes: 0,
        }).collect();
        for luck in tries {
            // The one whose turn comes first.
            let next = usize::from(candidates[1].at < candidates[0].at);
            candidates[next].try_once(&mut server, luck);
        }
        for (from, until) in &candidates[0].believes {
            for (other_from, other_until) in &candidates[1].believes {
                prop_assert!(until <= other_from || other_until <= from, "{from}..{until} and {other_from}..{other_until}");
            }
        }
    }
}

#[test]
fn someone_leads_when_nothing_goes_wrong() {
    let fine = Luck { there: 1, back: 1, lost_there: false, lost_back: false, pause: 0 };
    let mut server = Server::default();
    let mut candidate =
        Candidate { settings: settings("a"), observed: None, at: 0, offset: 5, rate_percent: 100, believes: Vec::new(), writes: 0 };
    for _ in 0..10 {
        candidate.try_once(&mut server, [fine, fine]);
    }
    assert_eq!(candidate.believes.len(), 10);
    assert!(candidate.believes.windows(2).all(|pair| pair[1].0 < pair[0].1), "without a gap: {:?}", candidate.believes);
}

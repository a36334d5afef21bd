//! How long runs that have ended are kept. In: the runs of a task. Out: which of them go now, and when to look again.
//!
//! A run is what its firing is known by: it goes only when the firing cannot come again, as the watermark has passed it, or its key is remembered in the
//! task's status; and not while a write of an earlier leader could still create it anew.

use super::{Machine, records::RunRecord};
use crate::{
    model::time::{DurationMs, Timestamp},
    tasks::{
        facts::Key,
        names,
        run::{Outcome, ReapResult, TriggerKind},
        spec::{Keep, Retention},
        trigger::remembered::Remembered,
    },
};

/// No run goes sooner after its end.
const AGE_MIN: DurationMs = DurationMs(600_000);
/// Defaults.
const COUNT: u32 = 20;
const SUCCEEDED_TTL: DurationMs = DurationMs(86_400_000);
const FAILED_TTL: DurationMs = DurationMs(604_800_000);
/// Runs that go at once.
const AT_ONCE_MAX: usize = 100;

/// What is to be done about runs that have ended.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// They go.
    pub delete: Vec<Key>,
    /// Their keys are to be remembered first: hash and time.
    pub remember: Vec<(String, Timestamp)>,
    /// When to look again.
    pub next: Option<Timestamp>,
}

impl Machine {
    pub(super) fn passed(
        &self,
        task: &Key,
        retention: &Retention,
        watermark: Timestamp,
        remembered: &Remembered,
        now: Timestamp,
    ) -> Passed {
        let mut passed = Passed::default();
        let ended = |record: &&RunRecord| record.run.is_reaped() && !record.run.deleting && record.pods.is_empty() && is_closed(record);
        let (good, bad): (Vec<&RunRecord>, Vec<&RunRecord>) =
            self.runs_of(task).filter(ended).partition(|record| record.run.status.outcome == Some(Outcome::Succeeded));
        for (mut class, keep, ttl) in [(good, &retention.succeeded, SUCCEEDED_TTL), (bad, &retention.failed, FAILED_TTL)] {
            class.sort_unstable_by(|one, other| (finished(other), &other.run.key).cmp(&(finished(one), &one.run.key)));
            Self::pass(&class, keep, ttl, watermark, remembered, now, &mut passed);
        }
        passed
    }

    #[allow(clippy::too_many_arguments)] // one rule, asked for two classes
    fn pass(
        class: &[&RunRecord],
        keep: &Keep,
        ttl: DurationMs,
        watermark: Timestamp,
        remembered: &Remembered,
        now: Timestamp,
        passed: &mut Passed,
    ) {
        let count = usize::try_from(keep.count.unwrap_or(COUNT)).unwrap_or(usize::MAX);
        let ttl = keep.ttl.or(ttl);
        for (at, record) in class.iter().enumerate() {
            let surplus = at >= count;
            let due = finished(record) + if surplus { AGE_MIN } else { ttl.max(AGE_MIN) };
            if due > now {
                passed.next = passed.next.map_or(Some(due), |next| Some(next.min(due)));
                continue;
            }
            if passed.delete.len() + passed.remember.len() >= AT_ONCE_MAX {
                passed.next = Some(now + DurationMs(1_000));
                return;
            }
            let run = &record.run;
            let hash = names::key_hash(&run.trigger.key);
            match run.trigger.kind {
                TriggerKind::Manual => passed.delete.push(run.key.clone()),
                TriggerKind::Cron if run.scheduled.is_none_or(|at| at <= watermark) => passed.delete.push(run.key.clone()),
                TriggerKind::Cron => {}
                TriggerKind::After | TriggerKind::Data if remembered.holds(&hash) => passed.delete.push(run.key.clone()),
                TriggerKind::After | TriggerKind::Data => passed.remember.push((hash, run.scheduled.unwrap_or(run.created))),
            }
        }
    }
}

fn finished(record: &RunRecord) -> Timestamp {
    record.run.status.finished_at.map_or(record.run.created, |time| time.0)
}

/// Whether nobody needs it any more: those that follow it exist, and nothing of its pod is left.
fn is_closed(record: &RunRecord) -> bool {
    let result = record.run.status.current().and_then(|attempt| attempt.reap.as_ref()?.result);
    record.run.status.followed && !matches!(result, Some(ReapResult::Kept | ReapResult::Stuck | ReapResult::Forbidden))
}

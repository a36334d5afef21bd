//! The rules of leader election on a Lease, as client-go has them. Pure: what was read, who we are and the local time in; the next step out.
//!
//! No clock of another host is ever trusted. A lease that somebody else holds counts as given up only when *we* have seen it unchanged for its whole
//! duration on our own clock. Every write carries the resourceVersion that was read, so that of two writers one loses. And the leader believes in its
//! lease only until [`ElectionSettings::renew_deadline`] after it *sent* its last successful renewal, while others wait the longer lease duration from
//! the moment they *saw* it: so two never believe at the same time, as long as clocks run at rates that differ by less than the two spans do.

use std::time::Duration;

/// How an election is held. All of client-go's conditions hold: `lease_duration > renew_deadline > 1.2 x retry_period > 0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectionSettings {
    /// Our name among the candidates: `<hostname>_<uuid>`.
    pub identity: String,
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// How long others wait for a leader that is silent.
    pub lease_duration: Duration,
    /// How long a leader goes on without a successful renewal.
    pub renew_deadline: Duration,
    /// Time between two tries.
    pub retry_period: Duration,
}

/// client-go's `JitterFactor`: candidates wait up to so many retry periods more.
pub const JITTER: f64 = 1.2;

impl ElectionSettings {
    /// kube-scheduler's defaults: 15 s, 10 s, 2 s.
    pub fn new(identity: String, namespace: &str, name: &str) -> Self {
        Self {
            identity,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// What is wrong with the spans, if anything.
    pub fn problem(&self) -> Option<&'static str> {
        if self.lease_duration <= self.renew_deadline {
            Some("leaseDuration must be greater than renewDeadline")
        } else if self.renew_deadline <= self.retry_period.mul_f64(JITTER) {
            Some("renewDeadline must be greater than 1.2 times retryPeriod")
        } else if self.retry_period.is_zero() {
            Some("retryPeriod must be greater than zero")
        } else if self.lease_duration.as_secs() < 1 {
            Some("leaseDuration must be at least one second")
        } else {
            None
        }
    }
}

/// What a Lease says, as far as the election needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Who holds it; empty if nobody.
    pub holder: String,
    /// How long the holder asks others to wait, seconds.
    pub duration_seconds: u64,
    /// When it was taken, as the holder wrote it.
    pub acquired: String,
    /// When it was renewed, as the holder wrote it: only ever compared for being different.
    pub renewed: String,
    /// How often it changed hands.
    pub transitions: u64,
}

/// A lease as we saw it, and when its content last changed before our eyes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What it said.
    pub record: LeaseRecord,
    /// `metadata.resourceVersion`: a write goes through only if nobody wrote since.
    pub resource_version: String,
    /// When we first saw this content, since the start of our own clock.
    pub since: Duration,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nobody has a lease: make one.
    Create,
    /// Write ourselves in, for the first time; it changes hands.
    Take,
    /// Write that we still hold it.
    Renew,
    /// Somebody else holds it.
    Wait,
}

/// The next step of a candidate. `now` and the times in `observed` are of our own monotonic clock.
pub fn decide(observed: Option<&Observed>, me: &str, now: Duration) -> Step {
    let Some(Observed { record, since, .. }) = observed else { return Step::Create };
    if record.holder == me {
        Step::Renew
    } else if record.holder.is_empty() || now >= *since + Duration::from_secs(record.duration_seconds) {
        Step::Take
    } else {
        Step::Wait
    }
}

/// Takes in what was read. A content that we saw before keeps the time at which we saw it first.
pub fn observe(before: Option<Observed>, record: LeaseRecord, resource_version: String, now: Duration) -> Observed {
    match before {
        Some(before) if before.record == record => Observed { resource_version, ..before },
        _ => Observed { record, resource_version, since: now },
    }
}

/// What to write for a step, at a wall-clock time that only people read.
pub fn next_record(step: &Step, before: Option<&LeaseRecord>, settings: &ElectionSettings, wall: &str) -> LeaseRecord {
    let held = before.filter(|_| *step == Step::Renew);
    LeaseRecord {
        holder: settings.identity.clone(),
        duration_seconds: settings.lease_duration.as_secs(),
        acquired: held.map_or_else(|| wall.to_owned(), |held| held.acquired.clone()),
        renewed: wall.to_owned(),
        transitions: before.map_or(0, |before| before.transitions + u64::from(*step == Step::Take)),
    }
}

/// What to write when we give the lease up: the next candidate need not wait.
pub fn released(before: &LeaseRecord, wall: &str) -> LeaseRecord {
    LeaseRecord {
        holder: String::new(),
        duration_seconds: 1,
        acquired: wall.to_owned(),
        renewed: wall.to_owned(),
        transitions: before.transitions,
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;

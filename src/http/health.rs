//! `/healthz`, `/livez`, `/readyz`. In: named checks from all rooms. Out: Kubernetes' texts, 200 or 500.

use std::{
    fmt::Write as _,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::Instant;

/// How long after its end a lease may still be held in name: kube-scheduler's grace, more than any pause that is not a hang.
const LEASE_GRACE: Duration = Duration::from_secs(20);

/// A question that kubelets and people ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The old question, kept for old manifests.
    Healthz,
    /// Should this process be restarted?
    Livez,
    /// Does this process do its work, leading or standing by?
    Readyz,
}

impl Probe {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Healthz, Self::Livez, Self::Readyz];

    /// The last word of the path, and of the answer.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthz => "healthz",
            Self::Livez => "livez",
            Self::Readyz => "readyz",
        }
    }
}

type CheckFn = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

struct Check {
    name: &'static str,
    probes: &'static [Probe],
    run: CheckFn,
}

/// The checks. Cloning shares them; they can be added while the server runs.
#[derive(Clone, Default)]
pub struct HealthChecks(Arc<RwLock<Vec<Check>>>);

/// An answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether all checks passed.
    pub healthy: bool,
    /// One line a check, and the verdict.
    pub text: String,
}

impl HealthChecks {
    /// Adds a check to some probes. It runs at each probe and must answer at once, from memory; its error is shown to the caller without
    /// authentication, so it names states and not data.
    pub fn add(&self, name: &'static str, probes: &'static [Probe], run: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(Check { name, probes, run: Box::new(run) });
    }

    /// Runs all checks of a probe but the excluded.
    pub fn report(&self, probe: Probe, exclude: &[String]) -> Report {
        let mut text = "[+]ping ok\n".to_owned();
        let mut healthy = true;
        for check in self.0.read().unwrap_or_else(PoisonError::into_inner).iter().filter(|check| check.probes.contains(&probe)) {
            let name = check.name;
            let _infallible = if exclude.iter().any(|excluded| excluded == name) {
                writeln!(text, "[+]{name} excluded: ok")
            } else if let Err(reason) = (check.run)() {
                healthy = false;
                writeln!(text, "[-]{name} failed: {reason}")
            } else {
                writeln!(text, "[+]{name} ok")
            };
        }
        let verdict = if healthy { "passed" } else { "failed" };
        let _infallible = writeln!(text, "{} check {verdict}", probe.name());
        Report { healthy, text }
    }

    /// Runs one check alone; `None` when the probe has no such check.
    pub fn single(&self, probe: Probe, name: &str) -> Option<Report> {
        if name == "ping" {
            return Some(Report { healthy: true, text: "ok".to_owned() });
        }
        let checks = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let check = checks.iter().find(|check| check.name == name && check.probes.contains(&probe))?;
        Some(match (check.run)() {
            Ok(()) => Report { healthy: true, text: "ok".to_owned() },
            Err(reason) => Report { healthy: false, text: format!("{name} failed: {reason}\n") },
        })
    }
}

/// Notices a leader that neither renews nor lets go: its lease ended long ago and the process still stands. Such a process must be restarted.
#[derive(Clone, Default)]
pub struct LeaseWatchdog(Arc<RwLock<Option<Instant>>>);

impl LeaseWatchdog {
    /// The lease is ours until then.
    pub fn renewed(&self, until: Instant) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// The lease is not ours, and nothing acts on it any more.
    pub fn released(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The check `leaderElection`, by kube-scheduler's name.
    pub fn register(&self, checks: &HealthChecks) {
        let watchdog = self.clone();
        checks.add("leaderElection", &Probe::ALL, move || watchdog.check());
    }

    fn check(&self) -> Result<(), String> {
        let until = *self.0.read().unwrap_or_else(PoisonError::into_inner);
        match until.map(|until| Instant::now().saturating_duration_since(until)) {
            Some(overdue) if overdue > LEASE_GRACE => {
                Err(format!("the lease ended {} s ago and was neither renewed nor given up", overdue.as_secs()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> HealthChecks {
        let checks = HealthChecks::default();
        checks.add("good", &Probe::ALL, || Ok(()));
        checks.add("bad", &[Probe::Readyz], || Err("pods are not listed yet".into()));
        checks
    }

    #[test]
    fn texts_are_kubernetes_own() {
        let good = "[+]ping ok\n[+]good ok\nlivez check passed\n";
        let bad = "[+]ping ok\n[+]good ok\n[-]bad failed: pods are not listed yet\nreadyz check failed\n";
        let excluded = "[+]ping ok\n[+]good ok\n[+]bad excluded: ok\nreadyz check passed\n";
        for (probe, exclude, healthy, text) in [
            (Probe::Livez, vec![], true, good),
            (Probe::Readyz, vec![], false, bad),
            (Probe::Readyz, vec!["bad".to_owned()], true, excluded),
        ] {
            assert_eq!(checks().report(probe, &exclude), Report { healthy, text: text.into() });
        }
    }

    #[test]
    fn one_check_can_be_asked_alone() {
        for (probe, name, healthy) in [
            (Probe::Readyz, "bad", Some(false)),
            (Probe::Livez, "bad", None),
            (Probe::Livez, "good", Some(true)),
            (Probe::Livez, "ping", Some(true)),
            (Probe::Livez, "x", None),
        ] {
            assert_eq!(checks().single(probe, name).map(|report| report.healthy), healthy, "{probe:?} {name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_leader_is_noticed_after_the_grace() {
        let watchdog = LeaseWatchdog::default();
        assert!(watchdog.check().is_ok(), "a standby is well");
        watchdog.renewed(Instant::now() + Duration::from_secs(15));
        tokio::time::advance(Duration::from_secs(35)).await;
        assert!(watchdog.check().is_ok());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(watchdog.check().is_err());
        watchdog.released();
        assert!(watchdog.check().is_ok());
    }
}

//! From the Secret to contact. In: the kubeconfig, answers to probes. Out: the connection, who is at its other end, whether it is lost.
//!
//! Credentials are tried aside and exchanged only once they lead to the cluster that it was before: a kubeconfig that was pointed elsewhere reaches nobody.

use std::time::Duration;

use tokio::time::Instant;

use super::{Due, PROBE_EVERY, Tree};
use crate::{
    kubernetes::{
        api::Api,
        cluster::{
            access::{self, SecretError},
            contact::Change,
            facts::span,
            probe::{self, ProbeError},
            status::Finding,
        },
    },
    model::time::DurationMs,
};

/// Between two looks at the Secret: a rotation is taken up within it.
const SECRET_EVERY: Duration = Duration::from_secs(30);
/// Between two looks at who is at the other end, while contact is good.
const IDENTITY_EVERY: Duration = Duration::from_secs(60);
/// When the spec does not say after how long a cluster is lost.
const NOT_READY_AFTER: DurationMs = DurationMs::from_secs(15);

impl Tree {
    pub(super) async fn look_at_secret(&mut self) {
        let Some(spec) = self.spec.clone().filter(|_| self.secret_due.take(SECRET_EVERY)) else { return };
        let text = match access::secret_text(&self.context.home, &spec.access.kubeconfig_secret_ref).await {
            Ok(text) => Ok(text),
            Err(SecretError::Missing(why)) => Err(why),
            Err(error @ SecretError::Home(_)) => {
                // Home stumbles: what was known goes on.
                tracing::warn!(cluster = &*self.name, "trying again: {error}");
                return;
            }
        };
        match text {
            // What is in use goes on being used for what runs already.
            Err(why) => self.refuse_credentials("SecretMissing", why),
            Ok(text) if self.installed.as_ref() == Some(&text) => {
                self.pending = None;
                self.astray = None;
                self.tell_identity();
                if !self.unauthorized {
                    self.findings.authenticated = Finding::Good(String::new());
                }
            }
            Ok(text) => match (self.context.connect)(&text, &spec) {
                Ok(api) => self.pending = Some((text, api)),
                Err(error) => self.refuse_credentials("BadKubeconfig", error.to_string()),
            },
        }
    }

    fn refuse_credentials(&mut self, reason: &'static str, why: String) {
        self.pending = None;
        self.findings.authenticated = Finding::Bad(reason, why);
    }

    pub(super) async fn look_at_cluster(&mut self) {
        let fresh =
            self.pending.is_some() && !self.link.is_set() && self.installed.is_none() && self.findings.reachable == Finding::Unknown;
        if !self.probe_due.take(PROBE_EVERY) && !fresh {
            return;
        }
        if let Some((text, api)) = self.pending.take() {
            self.try_credentials(text, api).await;
        } else if self.link.is_set() {
            self.probe().await;
        }
    }

    async fn try_credentials(&mut self, text: String, api: Api) {
        let found = probe::identity(&api).await;
        match found {
            Ok(uid) => {
                self.findings.authenticated = Finding::Good(String::new());
                let recognised = self.recognise(&uid);
                self.astray = (!recognised.is_good()).then(|| recognised.clone());
                if recognised.is_good() {
                    self.identity = recognised;
                    self.tell_identity();
                    self.link.exchange(Some(api.client()));
                    (self.installed, self.unauthorized) = (Some(text), false);
                    self.rights_due = Due::now();
                    self.drop_watches();
                    self.heard(None);
                    return;
                }
                self.tell_identity();
                if !self.link.is_set() {
                    self.findings.reachable = Finding::Good(String::new());
                }
            }
            Err(ProbeError::Unauthorized(why)) => {
                self.findings.authenticated = Finding::Bad("Unauthorized", why);
                // Where nothing else is in use, nobody answers us.
                self.unauthorized |= !self.link.is_set();
            }
            Err(ProbeError::Forbidden(why)) => {
                self.findings.authenticated = Finding::Good(String::new());
                self.findings.authorized =
                    Finding::Bad("MissingPermissions", format!("namespaces get over there is needed, to know who it is: {why}"));
            }
            Err(ProbeError::Silent(why)) if !self.link.is_set() => self.missed(&why),
            Err(ProbeError::Silent(_)) => {}
        }
        if self.link.is_set() {
            self.probe().await;
        }
        self.pending = Some((text, api));
    }

    /// Whether this UID is the one that it has to be.
    fn recognise(&mut self, uid: &str) -> Finding {
        if *uid == *self.context.home_uid {
            return Finding::Bad("HomeCluster", "the kubeconfig leads to the home cluster itself".to_owned());
        }
        if let Some(known) = self.uid.as_deref().filter(|known| *known != uid) {
            let text = format!(
                "the kubeconfig leads to another cluster (kube-system {uid}) than before ({known}): nothing of it is touched; point it back, or remove this object and add a new one"
            );
            return Finding::Bad("IdentityChanged", text);
        }
        if let Err(other) = self.context.census.claim(uid, &self.name) {
            return Finding::Bad(
                "DuplicateCluster",
                format!("ComputeCluster {other} stands for the same cluster (kube-system {uid}): remove one of the two"),
            );
        }
        self.uid = Some(uid.into());
        Finding::Good(String::new())
    }

    /// Credentials that lead elsewhere keep new pods away until they are put right; what is in use goes on for what runs already.
    fn tell_identity(&mut self) {
        self.findings.identity = self.astray.as_ref().unwrap_or(&self.identity).clone();
    }

    async fn probe(&mut self) {
        let api = self.link.api().unlimited();
        let sent = Instant::now();
        let mut answer = probe::ready(&api).await;
        // Who has been away, or was not asked for a while, is asked for its name before anything else is believed.
        if answer.is_ok() && (!self.contact.is_reachable() || self.identity_due.take(IDENTITY_EVERY)) {
            match probe::identity(&api).await {
                Ok(uid) => {
                    self.identity = self.recognise(&uid);
                    self.tell_identity();
                }
                Err(error) => answer = Err(error),
            }
        }
        self.metrics.probed(answer.is_ok(), sent.elapsed());
        match answer {
            Ok(_) if !self.identity.is_good() => self.missed("another cluster answers"),
            Ok(date) => {
                self.unauthorized = false;
                if self.pending.is_none() && matches!(self.findings.authenticated, Finding::Bad("Unauthorized", _)) {
                    self.findings.authenticated = Finding::Good(String::new());
                }
                self.heard(date.as_deref());
            }
            Err(ProbeError::Unauthorized(why)) => {
                self.unauthorized = true;
                self.findings.authenticated = Finding::Bad("Unauthorized", why.clone());
                self.secret_due = Due::now();
                self.missed(&why);
            }
            Err(ProbeError::Forbidden(why)) => {
                self.findings.authorized =
                    Finding::Bad("MissingPermissions", format!("namespaces get over there is needed, to know who it is: {why}"));
                self.rights_due = Due::now();
            }
            Err(ProbeError::Silent(why)) => self.missed(&why),
        }
    }

    /// The right cluster answered.
    fn heard(&mut self, date: Option<&str>) {
        let now = self.context.clock.now();
        self.metrics.answered(now);
        let skew = date.and_then(|date| probe::skew(date, self.context.clock.wall()));
        let remark = skew
            .map(|seconds| format!("its clock is {} s {} ours", seconds.unsigned_abs(), if seconds > 0 { "ahead of" } else { "behind" }));
        self.findings.reachable = Finding::Good(remark.unwrap_or_default());
        let was_lost = self.contact.lost_since().is_some();
        if self.contact.answered(now) == Some(Change::Healed) {
            tracing::info!(cluster = &*self.name, was_lost, "compute cluster answers");
            self.context.census.report(self.id, true, Instant::now());
            self.rights_due = Due::now();
            if was_lost {
                // Dead streams and their waits are left behind: what is there now is listed at once.
                self.drop_watches();
            }
        }
    }

    fn missed(&mut self, why: &str) {
        let after = self.spec.as_ref().and_then(|spec| span(&spec.lost.not_ready_after)).unwrap_or(NOT_READY_AFTER);
        let change = self.contact.missed(self.context.clock.now(), after);
        if let Some(Change::Lost(since)) = change {
            tracing::warn!(cluster = &*self.name, last_contact = since.0, "compute cluster is lost: {why}");
            self.context.census.report(self.id, false, Instant::now());
        }
        if self.contact.is_doubtful() {
            // The first word stays: a text that changes with each try would be written each time.
            let known = matches!(self.findings.reachable, Finding::Bad(..));
            if !known {
                self.findings.reachable = Finding::Bad("NotResponding", why.to_owned());
            }
        }
    }
}

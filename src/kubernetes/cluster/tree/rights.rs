//! What we may do on the cluster, and what it leaves us. In: answers to reviews, quotas, the record of debts. Out: condition Authorized, what is left of the
//! quota, leftovers wiped before the cluster is used.

use std::time::Duration;

use super::Tree;
use crate::kubernetes::{
    api::Api,
    cluster::{
        facts, probe,
        rest::{Rest, RestError},
        status::Finding,
        wipe::{self, Leftovers},
    },
};

/// Between two reviews of all permissions, while nothing is missing.
const RIGHTS_EVERY: Duration = Duration::from_secs(300);
/// While something is.
const RIGHTS_RETRY: Duration = Duration::from_secs(30);
/// Between two looks at quotas.
const QUOTA_EVERY: Duration = Duration::from_secs(10);
/// Between two looks at debts, until there are none.
const DEBTS_EVERY: Duration = Duration::from_secs(5);

impl Tree {
    /// The cluster, asked for objects.
    pub(super) fn remote(&self) -> Rest {
        Rest::new(self.link.api().clone())
    }

    /// The same for writes: none while we do not lead.
    pub(super) fn remote_writes(&self) -> Rest {
        Rest::new(self.link.api().while_permitted(self.permission.clone()))
    }

    /// Reviews ask, and change nothing: a standby may.
    fn asked(&self) -> Api {
        self.link.api().unlimited()
    }

    pub(super) async fn look_at_rights(&mut self) {
        let every = if self.findings.authorized.is_good() { RIGHTS_EVERY } else { RIGHTS_RETRY };
        if !self.is_open() || !self.rights_due.take(every) {
            return;
        }
        let api = self.asked();
        let missing = match probe::missing(&api, &self.run_namespace).await {
            Ok(missing) => missing,
            Err(error) => {
                tracing::debug!(cluster = &*self.name, "permissions are not known: {error}");
                return;
            }
        };
        if let Ok(version) = probe::version(&api).await {
            self.version = version;
        }
        if missing.sees_all_pods != self.missing.sees_all_pods {
            self.drop_watches();
        }
        self.findings.authorized = if missing.needed.is_empty() {
            match wipe::ensure_namespace(&self.remote(), &self.remote_writes(), &self.run_namespace, &self.context.home_uid, self.leads())
                .await
            {
                Ok(Finding::Good(_)) => Finding::Good(missing.useful.join("; ")),
                Ok(bad) => bad,
                Err(error) => Finding::Bad("RunNamespaceMissing", format!("namespace {}: {error}", self.run_namespace)),
            }
        } else {
            Finding::Bad("MissingPermissions", format!("we may not: {}; see isobar cluster role", missing.needed.join(", ")))
        };
        self.missing = missing;
    }

    pub(super) async fn look_at_quota(&mut self) {
        if !self.is_open() || !self.findings.authorized.is_good() || !self.quota_due.take(QUOTA_EVERY) {
            return;
        }
        let path = format!("/api/v1/namespaces/{}/resourcequotas", self.run_namespace);
        match Rest::new(self.asked()).list(&path, "").await {
            Ok(quotas) => self.quota = facts::quota_left(&quotas),
            Err(error) => tracing::debug!(cluster = &*self.name, "quotas are not seen: {error}"),
        }
    }

    pub(super) async fn look_at_debts(&mut self) {
        if self.owes == Some(false) || !self.is_open() || !self.findings.authorized.is_good() || !self.debts_due.take(DEBTS_EVERY) {
            return;
        }
        match self.pay_debts().await {
            Ok(0) => {
                self.owes = Some(false);
                self.findings.debts = Finding::Good(String::new());
            }
            Ok(left) => {
                self.owes = Some(true);
                self.findings.debts =
                    Finding::Bad("WipingDebts", format!("{left} objects of ours are left from before it was removed by force"));
            }
            Err(error) => tracing::warn!(cluster = &*self.name, "what it owes is not known yet: {error}"),
        }
    }

    /// How many leftovers there are still.
    async fn pay_debts(&mut self) -> Result<usize, RestError> {
        let Some(uid) = self.uid.clone() else { return Ok(0) };
        if !self.context.debts.has(&uid).await? {
            return Ok(0);
        }
        let remote = self.remote();
        let left = Leftovers::find(&remote, &self.run_namespace, &self.context.home_uid).await?.orphans(&self.context.home).await?;
        if !self.leads() {
            return Ok(left.count().max(1));
        }
        if left.count() == 0 {
            self.context.debts.clear(&uid).await?;
            return Ok(0);
        }
        left.wipe(&self.remote_writes()).await?;
        Ok(left.count())
    }
}

//! The end of a cluster, and its drain. In: an object that is being deleted, or `state: Draining`. Out: pods drained by the worker, what is left wiped and seen
//! to be gone, Node, Lease and finalizer dropped, in this order.
//!
//! ```text
//! no pod of home there --> nothing of ours over there --> no Node, no Lease --> no finalizer
//!                          | does not answer and force: the debt is noted
//! ```

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use super::Tree;
use crate::{
    federation::{names, spec::ClusterState},
    kubernetes::{
        clock::whole_second_time,
        cluster::{
            facts::Removal,
            object,
            rest::RestError,
            status::Finding,
            wipe::{self, Leftovers},
        },
    },
};

/// The worker of the runs has so long after the last pod of home has ended to copy logs and reap; what is left then is nobody's.
const REAP_PATIENCE: Duration = Duration::from_secs(180);

/// How far it is.
#[derive(Default)]
pub(super) struct Progress {
    drained_at: Option<Instant>,
    /// The virtual Node is to be deleted.
    pub(super) node_goes: bool,
    is_done: bool,
}

impl Tree {
    pub(super) async fn go_on_removing(&mut self) {
        if !self.object.deleting {
            self.findings.wiped = None;
        }
        if !self.leads() {
            return;
        }
        let step = if self.object.deleting { self.remove().await } else { self.stay().await };
        if let Err(error) = step {
            if error.is(StatusCode::CONFLICT) {
                // Written by an admin or by ourselves since: its newer state is on its way and is gone on with.
                tracing::debug!(cluster = &*self.name, deleting = self.object.deleting, "written meanwhile: {error}");
                return;
            }
            tracing::warn!(cluster = &*self.name, deleting = self.object.deleting, "no progress: {error}");
        }
    }

    /// The finalizer is there before anything of ours is.
    async fn stay(&mut self) -> Result<(), RestError> {
        if !self.object.is_held() {
            let finalizers: Vec<&str> = self.object.finalizers.iter().map(String::as_str).chain([names::WIPE_FINALIZER]).collect();
            self.write_finalizers(&finalizers).await?;
        }
        let draining = self.spec.as_ref().is_some_and(|spec| spec.state == ClusterState::Draining);
        self.findings.drained = if draining { Some(self.drained().await?) } else { None };
        Ok(())
    }

    async fn drained(&self) -> Result<Finding, RestError> {
        Ok(match wipe::pods_on(&self.context.home, &names::virtual_node(&self.name)).await? {
            0 => Finding::Good("no pod of home runs there".to_owned()),
            left => Finding::Bad("Draining", format!("{left} pods of home are still there")),
        })
    }

    async fn remove(&mut self) -> Result<(), RestError> {
        if self.removal.is_done || !self.object.is_held() {
            return Ok(());
        }
        let drained = self.drained().await?;
        let is_drained = drained.is_good();
        self.findings.drained = Some(drained);
        if !is_drained {
            self.removal.drained_at = None;
            self.findings.wiped = Some(Finding::Bad("Draining", "first its pods have to go".to_owned()));
            return Ok(());
        }
        let drained_at = *self.removal.drained_at.get_or_insert_with(Instant::now);
        let wiped = self.wiped(drained_at).await?;
        let is_wiped = wiped.is_good();
        self.findings.wiped = Some(wiped);
        if !is_wiped {
            return Ok(());
        }
        self.removal.node_goes = true;
        if self.seen.borrow().gone || self.uid.is_none() {
            let others: Vec<String> =
                self.object.finalizers.iter().filter(|finalizer| *finalizer != names::WIPE_FINALIZER).cloned().collect();
            self.write_finalizers(&others.iter().map(String::as_str).collect::<Vec<_>>()).await?;
            self.removal.is_done = true;
            tracing::info!(cluster = &*self.name, "compute cluster is removed");
        }
        Ok(())
    }

    /// Whether nothing of ours is left over there, or what is left is noted.
    async fn wiped(&mut self, drained_at: Instant) -> Result<Finding, RestError> {
        let Some(uid) = self.uid.clone() else { return Ok(Finding::Good("nothing of ours was ever there".to_owned())) };
        if self.removal.node_goes {
            return Ok(self.findings.wiped.clone().unwrap_or_default());
        }
        if self.removal_kind() == Removal::Forced {
            let runs = self.worker.as_ref().map_or(0, |worker| worker.counts.borrow().active + worker.counts.borrow().ended);
            let since = whole_second_time(self.context.clock.wall());
            self.context.debts.note(&uid, &self.name, &self.run_namespace, runs, &since).await?;
            return Ok(Finding::Good("noted as a debt: wiped when the cluster is added again".to_owned()));
        }
        if !self.is_open() {
            let text = "it does not answer, so that nothing can be wiped; set spec.force: true to remove it all the same (what is left is wiped when it is added again)";
            return Ok(Finding::Bad("NotReachable", text.to_owned()));
        }
        let remote = self.remote();
        let left = Leftovers::find(&remote, &self.run_namespace, &self.context.home_uid).await?;
        if left.count() > 0 {
            if drained_at.elapsed() >= REAP_PATIENCE {
                left.wipe(&self.remote_writes()).await?;
            }
            return Ok(Finding::Bad("Wiping", format!("{} objects of ours are left", left.count())));
        }
        wipe::drop_namespace(&self.remote_writes(), &self.run_namespace, &self.context.home_uid).await?;
        Ok(Finding::Good("nothing of ours is left".to_owned()))
    }

    async fn write_finalizers(&self, finalizers: &[&str]) -> Result<(), RestError> {
        let patch =
            json!({"metadata": {"finalizers": finalizers, "uid": self.object.uid, "resourceVersion": self.object.resource_version}});
        self.context.home_writes.merge(&object::path(&self.name), &patch).await?;
        Ok(())
    }
}

//! What a cluster is like, told to everybody whom it concerns. In: findings. Out: facts for the engine, news for the worker, status and virtual Node for home,
//! metrics. Each only when it is new.

use super::Tree;
use crate::{
    kubernetes::{
        clock::whole_second_time,
        cluster::{
            RunCounts, facts,
            object::{ComputeClusterStatus, Runs},
            publish::{Desired, Wish},
            status::Finding,
            virtual_node::NodeView,
        },
    },
    model::time::Timestamp,
    scheduler::input::Input,
};

/// Last contact is told to the minute, so that the status is written once a minute for its sake.
const CONTACT_GRAIN_MS: u64 = 60_000;

impl Tree {
    pub(super) async fn tell(&mut self) {
        let now = self.context.clock.now();
        self.findings.held_for = self.contact.held_for(now);
        let taken = self.seen.borrow_and_update().taken.clone();
        self.findings.node = taken.map_or(Finding::Good(String::new()), |why| Finding::Bad("NodeTaken", why.into()));
        self.tell_engine().await;
        self.tell_worker();
        let counts = self.worker.as_ref().map(|worker| *worker.counts.borrow()).unwrap_or_default();
        self.tell_home(counts);
        let ready = self.findings.obstacle().is_none();
        self.metrics.state(ready, self.contact.is_reachable());
        self.metrics.sizes(self.fleet.nodes, [counts.active, counts.pending, counts.ended], counts.debts);
    }

    async fn tell_engine(&mut self) {
        let Some(spec) = &self.spec else { return };
        // Only who leads makes the Node. A standby is to know the cluster as open, so that it can go on at once.
        let lacks_node = self.leads() && !self.seen.borrow().there;
        let closed = self.findings.closed(spec.state, self.seen.borrow().cordoned, self.object.deleting, lacks_node);
        let facts = facts::cluster_facts(self.id, &self.name, spec, &self.quota, closed.as_deref());
        if self.told.as_ref() != Some(&facts) {
            self.told = Some(facts.clone());
            // Nobody listens only when the process ends.
            let _ = self.context.inputs.send(Input::Cluster(Box::new(facts))).await;
        }
    }

    fn tell_home(&mut self, counts: RunCounts) {
        let now = whole_second_time(self.context.clock.wall());
        // The leader goes on from what it wrote itself; a standby from what the leader wrote.
        if !self.leads() {
            self.status = self.object.status.clone();
        }
        let generation = if self.findings.spec.is_good() { self.object.generation } else { self.object.status.observed_generation };
        let status = ComputeClusterStatus {
            observed_generation: generation,
            conditions: self.findings.conditions(&self.status, self.object.generation, &now),
            cluster_uid: self.uid.as_deref().map(str::to_owned),
            server_version: Some(self.version.clone()).filter(|version| !version.is_empty()),
            architectures: self.fleet.architectures.clone(),
            nodes: self.fleet.nodes,
            capacity: Some(self.fleet.capacity.clone()).filter(|_| self.fleet.nodes > 0),
            runs: Runs { active: counts.active, pending: counts.pending, ended: counts.ended },
            last_contact: self
                .contact
                .last_answer()
                .map(|at| text(Timestamp(at.0 / CONTACT_GRAIN_MS * CONTACT_GRAIN_MS)))
                .or(self.status.last_contact.clone()),
            not_ready_since: self.contact.lost_since().map(text),
            debts: counts.debts,
        };
        self.status = status.clone();
        let desired = Desired { status: Some(status).filter(|_| self.is_secured()), node: self.wish() };
        self.desired.send_if_modified(|known| {
            let changed = *known != desired;
            if changed {
                *known = desired;
            }
            changed
        });
    }

    fn wish(&self) -> Wish {
        if self.removal.node_goes {
            return Wish::Gone;
        }
        // Before anybody answered for the first time there is nothing to stand for.
        if self.uid.is_none() {
            return Wish::Untouched;
        }
        let ready = self.contact.is_reachable();
        let message = match &self.findings.reachable {
            _ if ready => "the cluster answers".to_owned(),
            Finding::Bad(_, why) => format!("the cluster does not answer: {why}"),
            _ => "the cluster has not answered yet".to_owned(),
        };
        let architecture = match self.fleet.architectures.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        };
        Wish::Kept(NodeView {
            cluster: self.name.clone(),
            ready,
            message,
            capacity: self.fleet.capacity.clone(),
            architecture,
            version: self.version.clone(),
            kubelet: *self.context.kubelet.borrow(),
        })
    }
}

/// RFC 3339 in whole seconds.
fn text(time: Timestamp) -> String {
    let millis = i64::try_from(time.0).unwrap_or_default();
    whole_second_time(jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

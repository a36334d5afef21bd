//! What is to be seen of a cluster at home, written. In: the status and the virtual Node as they should be. Out: both objects as they should be, as long as we
//! lead. Separate from the probes, so that a home API server that hangs makes no cluster look lost.

use std::time::Duration;

use serde_json::json;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{
    object::{self, ComputeClusterStatus},
    rest::{Rest, RestError},
    virtual_node::{NodeView, VirtualNode},
};
use crate::kubernetes::{
    api::CallError,
    clock::Clock,
    leadership::{Leadership, Permission},
};

/// How often the Lease is renewed and the Node looked at; kubelets do so as well.
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// How it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// `status` of the object; `None` while nothing is known.
    pub status: Option<ComputeClusterStatus>,
    /// The virtual Node.
    pub node: Wish,
}

/// What is to become of the virtual Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Left as it is.
    #[default]
    Untouched,
    /// There, like this.
    Kept(NodeView),
    /// Deleted, and its Lease.
    Gone,
}

/// What was seen of the virtual Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSeen {
    /// It is there. A pod that is bound to a Node that is not would be deleted by home's pod garbage collector.
    pub there: bool,
    /// Somebody cordoned it.
    pub cordoned: bool,
    /// We deleted it.
    pub gone: bool,
    /// Why it cannot be there: another Node has its name.
    pub taken: Option<Box<str>>,
}

/// Writes for one cluster until the other side is gone.
pub struct Publisher {
    /// Name of the object.
    pub cluster: Box<str>,
    /// Home, with permission asked before each write.
    pub home: Rest,
    /// The clock.
    pub clock: Clock,
    /// Whether we lead.
    pub leadership: watch::Receiver<Leadership>,
    /// How it should be.
    pub desired: watch::Receiver<Desired>,
    /// What was seen of the Node.
    pub seen: watch::Sender<NodeSeen>,
}

impl Publisher {
    /// Runs until nobody desires anything any more.
    pub async fn run(mut self) {
        let permission = Permission::new(self.leadership.clone());
        let mut node = VirtualNode::new(&self.cluster, self.home.clone(), self.clock);
        let mut written: Option<ComputeClusterStatus> = None;
        let mut led = false;
        let mut ticks = interval(RENEW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut kept = Wish::Untouched;
        loop {
            let ticked = tokio::select! {
                biased;
                changed = self.desired.changed() => if changed.is_err() { return } else { false },
                changed = self.leadership.changed() => if changed.is_err() { return } else { false },
                _ = ticks.tick() => true,
            };
            let leads = permission.granted();
            if leads && !led {
                (written, kept) = (None, Wish::Untouched);
            }
            led = leads;
            if !leads {
                continue;
            }
            let desired = self.desired.borrow_and_update().clone();
            if desired.status != written && self.write_status(desired.status.as_ref()).await {
                written = desired.status;
            }
            if ticked || desired.node != kept {
                kept = self.keep(&mut node, desired.node).await;
            }
        }
    }

    async fn write_status(&self, status: Option<&ComputeClusterStatus>) -> bool {
        let Some(status) = status else { return true };
        let path = format!("{}/status", object::path(&self.cluster));
        match self.home.merge(&path, &json!({"status": status})).await {
            Ok(_) => true,
            Err(error) => {
                self.complain("its status cannot be written", &error);
                false
            }
        }
    }

    /// What was fulfilled; nothing to try again.
    async fn keep(&self, node: &mut VirtualNode, wish: Wish) -> Wish {
        let done = match &wish {
            Wish::Untouched => return wish,
            Wish::Kept(view) => node.keep(view).await,
            Wish::Gone => node.remove().await.map(|()| NodeSeen { gone: true, ..NodeSeen::default() }),
        };
        match done {
            Ok(seen) => {
                self.see(seen);
                wish
            }
            Err(error) => {
                self.complain("its virtual Node is not as it should be", &error);
                Wish::Untouched
            }
        }
    }

    fn see(&self, seen: NodeSeen) {
        self.seen.send_if_modified(|known| {
            let changed = *known != seen;
            if let Some(why) = seen.taken.as_deref().filter(|_| changed) {
                tracing::warn!(cluster = &*self.cluster, "{why}");
            }
            *known = seen;
            changed
        });
    }

    fn complain(&self, what: &str, error: &RestError) {
        if !matches!(error, RestError::Call(CallError::NotPermitted)) {
            tracing::warn!(cluster = &*self.cluster, "{what}: {error}");
        }
    }
}

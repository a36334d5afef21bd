//! What was found out about single nodes for one class, kept for the next pod of the class. In: a node, its guests, what was found. Out: the same, as long as
//! neither the node nor its guests have changed.
//!
//! Kept only where no rule looks beyond single nodes: what is said of a node then depends on its record and on who is nominated there.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::{
    model::{ids::NodeIx, node::NodeRecord},
    scheduler::{framework::Refusal, profiles::PluginIx},
};

/// State of a node: the last changes of its object and of its usage, and the stamp of its guests, zero without any.
type Moment = (u64, u64, u64);

/// Places of the victims in the list of a node's pods, and how many violate a budget; or why nobody can make room there.
pub(super) type Cleared = Result<(SmallVec<[u32; 4]>, usize), Refusal>;

/// What guests of a node lead to; `None` when the class fits beside them.
pub type Told = Option<(PluginIx, Refusal)>;

/// See the module.
#[derive(Debug, Default)]
pub struct Memo {
    /// For which state of the budgets the dry runs were made.
    budgets: u64,
    dry_runs: FxHashMap<NodeIx, (Moment, Cleared)>,
    crowds: FxHashMap<NodeIx, (Moment, Told)>,
}

fn moment(node: &NodeRecord, stamp: u64) -> Moment {
    (node.object_changed, node.usage_changed, stamp)
}

impl Memo {
    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        self.dry_runs.len() * size_of::<(NodeIx, Moment, Cleared)>() + self.crowds.len() * size_of::<(NodeIx, Moment, Told)>()
    }

    /// What its guests lead to, kept or found out now.
    pub fn crowd(&mut self, ix: NodeIx, node: &NodeRecord, stamp: u64, find: impl FnOnce() -> Told) -> Told {
        let now = moment(node, stamp);
        if let Some((at, told)) = self.crowds.get(&ix)
            && *at == now
        {
            return told.clone();
        }
        let told = find();
        self.crowds.insert(ix, (now, told.clone()));
        told
    }

    /// The dry run on a node that is as it was.
    pub(super) fn dry_run(&mut self, budgets: u64, ix: NodeIx, node: &NodeRecord, stamp: u64) -> Option<&Cleared> {
        if self.budgets != budgets {
            self.budgets = budgets;
            self.dry_runs.clear();
        }
        let now = moment(node, stamp);
        self.dry_runs.get(&ix).filter(|(at, _)| *at == now).map(|(_, cleared)| cleared)
    }

    /// Keeps a dry run, asked for before with [`Self::dry_run`].
    pub(super) fn keep_dry_run(&mut self, ix: NodeIx, node: &NodeRecord, stamp: u64, cleared: Cleared) {
        self.dry_runs.insert(ix, (moment(node, stamp), cleared));
    }
}

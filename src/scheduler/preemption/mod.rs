//! What preemption is made of: budgets, nominations, the dry run on one node, the choice among nodes. The plugin that puts them together is
//! [`DefaultPreemption`](crate::scheduler::plugins), what follows from its answer is the engine's.

mod budgets;
mod candidate;
mod memo;
mod nominations;

pub use budgets::{Budgets, Ledger};
pub use candidate::{Candidate, DryRun, best, dry_run};
pub use memo::{Memo, Told};
pub use nominations::{Guests, NodeName, Nominations, Nominee, Party};

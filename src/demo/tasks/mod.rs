//! A small weather service of tasks beside the pods of the demo. In: the example manifests and the demo's clusters. Out: the room of tasks of `isobar run` at
//! work on them, and what came of it: a part of the report, and counts that must be zero.
//!
//! ```text
//! examples --Service--> Tasks, events, people --Author--> home <--> room of tasks
//!     |                                                    v watch
//!     +--runs that must come of it--> audit, report <--- Ledger
//! ```

mod audit;
mod ledger;
mod report;
mod room;
mod service;

pub use self::{
    audit::{Wanted, faults},
    ledger::Ledger,
    report::render,
    room::Room,
    service::Service,
};

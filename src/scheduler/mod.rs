//! The scheduling library: facts in, decisions out. Pure, synchronous, deterministic.

pub mod cache;
pub mod change;
pub mod clusters;
pub mod engine;
pub mod explain;
pub mod extenders;
pub mod framework;
pub mod gangs;
pub mod input;
pub mod nodes;
pub mod observe;
pub mod platforms;
pub mod plugins;
pub mod preemption;
pub mod profile;
pub mod profiles;
pub mod queue;
pub mod registry;
pub mod select;
pub mod storage;
pub mod terms;
pub mod view;

//! The scheduling library: facts in, decisions out. Pure, synchronous, deterministic.

pub mod change;
pub mod framework;
pub mod input;
pub mod nodes;
pub mod observe;
pub mod plugins;
pub mod profile;
pub mod registry;

//! Compute clusters on API servers in memory, under paused time: added, rotated, refused, lost, healed, removed. And the definition, as committed.

mod contact;
mod definition;
mod identity;
mod removal;
mod world;

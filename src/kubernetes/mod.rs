//! All talk to API servers.

pub mod permissions;
pub mod review;

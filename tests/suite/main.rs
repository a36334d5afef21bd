//! Tests that need Rust alone.
#![expect(clippy::expect_used, reason = "a test that cannot go on says why and stops")]

mod api_script;
mod sim_api;
mod sim_kubelet;
mod sim_watch;

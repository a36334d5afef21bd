//! Tests that need Rust alone.

mod api_script;
mod sim_api;

//! Tests that need only Rust.

mod engine_worlds;

//! Tests that need only Rust.

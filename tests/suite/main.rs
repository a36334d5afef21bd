//! Tests that need only Rust, in one binary.
#![allow(clippy::expect_used)] // a test says what it expects by failing

mod config_files;
mod engine_worlds;

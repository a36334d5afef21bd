//! Tests that need only Rust, in one binary, as each test binary links the whole library.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test says what it expects by failing
#![allow(clippy::disallowed_methods)] // real servers are waited for in real time

mod api_script;
mod commands;
mod compute_cluster;
mod config_files;
mod demo;
mod device_claims;
mod documentation;
mod engine_extenders;
mod engine_gangs;
mod engine_preemption;
mod engine_terms;
mod engine_volumes;
mod engine_worlds;
mod extenders;
mod federation;
mod first_lists;
mod http_server;
mod manifests;
mod metrics_page;
mod outside;
mod pipeline;
mod sim_api;
mod sim_faults;
mod sim_kubelet;
mod sim_watch;
mod simulated;
mod tasks;
mod tools;

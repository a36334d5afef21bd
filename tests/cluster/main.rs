//! Tests against the real control plane: kube-apiserver and etcd on loopback, beside them kube-scheduler or Isobar. `testbed/build` makes the
//! programs; without them each test says loudly that it was skipped, and fails under `CI_REQUIRE_CLUSTER=1`.
#![allow(clippy::disallowed_methods)] // real programs are measured in real time

mod harness;

mod api_script;
mod archive_s3;
mod broker;
mod compute_cluster;
mod control_plane;
mod cylc;
mod demo_serve;
mod describe_parity;
mod ecflow;
mod failover;
mod federation;
mod gangs;
mod image_registry;
mod kubelet_endpoint;
mod manifests;
mod parity;
mod permissions;
mod placement;
mod preemption;
mod reload;
mod requeue;
mod serving;
mod side_by_side;
mod task_deaths;
mod task_load;
mod task_room;
mod task_runs;
mod tasks;
mod volumes;

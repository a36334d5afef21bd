//! The real control plane for tests and benches: etcd and kube-apiserver on loopback, any scheduler beside them, a workload, what was measured of
//! the scheduler's process, and an audit of what it did. Entry points: [`control_plane::ControlPlane`], [`scheduler::Scheduler`],
//! [`workload::Workload`], [`experiment::run`], [`audit::audit`], [`ledger::Ledger`], [`audit_log::AuditLog`].

// Compiled into the test binary and into a bench program, each of which uses a part of it.
#![allow(dead_code)]

pub mod apiserver;
pub mod assets;
pub mod audit;
pub mod audit_log;
pub mod bindings;
pub mod certificates;
pub mod command;
pub mod control_plane;
pub mod creation;
pub mod etcd;
pub mod events;
pub mod experiment;
pub mod gate;
pub mod images;
pub mod kubeconfig;
pub mod kwok;
pub mod ledger;
pub mod measure;
pub mod placement_rules;
pub mod ports;
pub mod process;
pub mod quantity;
pub mod scheduler;
pub mod stores;
pub mod waiting;
pub mod workload;

//! Isobar: a standalone Kubernetes scheduler.

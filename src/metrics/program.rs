//! The program around the engine, as metrics: configuration, lease, what the fleet is made of, our own server.

use std::collections::BTreeMap;

use metrics::{Counter, Gauge};

use super::{
    Metrics, size,
    table::{
        CERTIFICATE_EXPIRY, CERTIFICATE_RELOADS, CONFIG_HASH, CONFIG_RELOADS, CONFIG_TIME, CONFIG_VALID, HTTP_CONNECTIONS,
        HTTP_CONNECTIONS_REFUSED, HTTP_REQUESTS, HTTP_REVIEWS, KUBELET_CERTIFICATE_EXPIRY, KUBELET_CERTIFICATES,
        KUBELET_CONNECTIONS_REFUSED, KUBELET_REQUESTS, KUBELET_TUNNELS, LEADER_ELECTION_STATUS, NODES,
    },
};
use crate::model::time::Timestamp;

/// Distinct kinds of nodes that are told apart; further ones are counted as `other`. Real fleets have a few dozen.
const NODE_GROUPS_MAX: usize = 256;

/// A gauge holds a float, which is exact for whole numbers up to 2^53; 48 bits are what Alertmanager shows of its configuration's hash, too.
const HASH_BITS: u64 = (1 << 48) - 1;

/// Reloads of the configuration.
#[derive(Clone)]
pub struct ConfigMetrics {
    applied: Counter,
    refused: Counter,
    valid: Gauge,
    time: Gauge,
    hash: Gauge,
}

impl ConfigMetrics {
    /// Takes the handles. The first configuration is reported by [`Self::loaded`].
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            applied: metrics.counter(&CONFIG_RELOADS, &["applied"]),
            refused: metrics.counter(&CONFIG_RELOADS, &["refused"]),
            valid: metrics.gauge(&CONFIG_VALID, &[]),
            time: metrics.gauge(&CONFIG_TIME, &[]),
            hash: metrics.gauge(&CONFIG_HASH, &[]),
        }
    }

    /// The configuration that the program starts with.
    pub fn loaded(&self, now: Timestamp, hash: u64) {
        self.valid.set(1.0);
        #[allow(clippy::cast_precision_loss)] // 48 bits
        self.hash.set((hash & HASH_BITS) as f64);
        self.time.set(now.since(Timestamp::default()).as_secs_f64());
    }

    /// A changed file is in use.
    pub fn applied(&self, now: Timestamp, hash: u64) {
        self.applied.increment(1);
        self.loaded(now, hash);
    }

    /// A changed file was refused; what was in use stays.
    pub fn refused(&self) {
        self.refused.increment(1);
        self.valid.set(0.0);
    }

    /// The file is again the one in use.
    pub fn restored(&self) {
        self.valid.set(1.0);
    }
}

/// Who holds the lease.
#[derive(Clone)]
pub struct LeaderMetrics(Gauge);

impl LeaderMetrics {
    /// Takes the handle for the lease of that name; not leading.
    pub fn new(metrics: &Metrics, lease: &str) -> Self {
        let gauge = metrics.gauge(&LEADER_ELECTION_STATUS, &[lease]);
        gauge.set(0.0);
        Self(gauge)
    }

    /// Whether this replica leads.
    pub fn set(&self, leading: bool) {
        self.0.set(f64::from(u8::from(leading)));
    }
}

/// What nodes are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeGroup {
    /// The cluster's name.
    pub cluster: String,
    /// `kubernetes.io/arch`.
    pub architecture: String,
    /// `kubernetes.io/os`.
    pub os: String,
    /// GPU model, `none` without one.
    pub gpu: String,
}

/// How many nodes of each kind there are.
pub struct NodeGauges {
    metrics: Metrics,
    handles: BTreeMap<NodeGroup, Gauge>,
}

impl NodeGauges {
    /// No nodes yet.
    pub fn new(metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), handles: BTreeMap::new() }
    }

    /// Takes up a full count. Kinds that are gone show 0.
    pub fn set(&mut self, counts: &BTreeMap<NodeGroup, usize>) {
        for handle in self.handles.values() {
            handle.set(0.0);
        }
        for (group, count) in counts {
            self.handle(group).increment(size(*count));
        }
    }

    fn handle(&mut self, group: &NodeGroup) -> &Gauge {
        let other = || "other".to_owned();
        let known = self.handles.contains_key(group) || self.handles.len() < NODE_GROUPS_MAX;
        let group = if known { group.clone() } else { NodeGroup { cluster: other(), architecture: other(), os: other(), gpu: other() } };
        let metrics = &self.metrics;
        self.handles.entry(group).or_insert_with_key(|group| {
            let gauge = metrics.gauge(&NODES, &[&group.cluster, &group.architecture, &group.os, &group.gpu]);
            gauge.set(0.0);
            gauge
        })
    }
}

/// Our own server.
#[derive(Clone)]
pub struct HttpMetrics {
    metrics: Metrics,
    pub(crate) connections: Gauge,
    pub(crate) over_limit: Counter,
    pub(crate) bad_handshakes: Counter,
    pub(crate) certificate_expiry: Gauge,
    pub(crate) certificates_applied: Counter,
    pub(crate) certificates_refused: Counter,
}

impl HttpMetrics {
    /// Takes the handles.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            metrics: metrics.clone(),
            connections: metrics.gauge(&HTTP_CONNECTIONS, &[]),
            over_limit: metrics.counter(&HTTP_CONNECTIONS_REFUSED, &["limit"]),
            bad_handshakes: metrics.counter(&HTTP_CONNECTIONS_REFUSED, &["tls"]),
            certificate_expiry: metrics.gauge(&CERTIFICATE_EXPIRY, &[]),
            certificates_applied: metrics.counter(&CERTIFICATE_RELOADS, &["applied"]),
            certificates_refused: metrics.counter(&CERTIFICATE_RELOADS, &["refused"]),
        }
    }

    /// A request was answered. `path` is one of the few that exist, or `other`. Probes and scrapes are rare: the handle is looked up.
    pub(crate) fn answered(&self, path: &str, code: u16) {
        self.metrics.counter(&HTTP_REQUESTS, &[path, &code.to_string()]).increment(1);
    }

    /// The API server was asked about a caller.
    pub(crate) fn reviewed(&self, review: &str, result: &str) {
        self.metrics.counter(&HTTP_REVIEWS, &[review, result]).increment(1);
    }
}

/// The endpoint of the virtual Nodes.
#[derive(Clone)]
pub struct KubeletMetrics {
    metrics: Metrics,
    pub(crate) tunnels: Gauge,
    pub(crate) over_limit: Counter,
    pub(crate) bad_handshakes: Counter,
    pub(crate) certificate_expiry: Gauge,
    pub(crate) certificates_applied: Counter,
    pub(crate) certificates_failed: Counter,
}

impl KubeletMetrics {
    /// Takes the handles.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            metrics: metrics.clone(),
            tunnels: metrics.gauge(&KUBELET_TUNNELS, &[]),
            over_limit: metrics.counter(&KUBELET_CONNECTIONS_REFUSED, &["limit"]),
            bad_handshakes: metrics.counter(&KUBELET_CONNECTIONS_REFUSED, &["tls"]),
            certificate_expiry: metrics.gauge(&KUBELET_CERTIFICATE_EXPIRY, &[]),
            certificates_applied: metrics.counter(&KUBELET_CERTIFICATES, &["applied"]),
            certificates_failed: metrics.counter(&KUBELET_CERTIFICATES, &["failed"]),
        }
    }

    /// A request was answered. People and dashboards ask: rare enough to look the handle up.
    pub fn answered(&self, path: &str, code: u16) {
        self.metrics.counter(&KUBELET_REQUESTS, &[path, &code.to_string()]).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(architecture: &str) -> NodeGroup {
        NodeGroup { cluster: "home".into(), architecture: architecture.into(), os: "linux".into(), gpu: "none".into() }
    }

    #[test]
    fn kinds_of_nodes_that_are_gone_show_zero() {
        let metrics = Metrics::new();
        let mut nodes = NodeGauges::new(&metrics);
        nodes.set(&BTreeMap::from([(group("amd64"), 3), (group("arm64"), 2)]));
        nodes.set(&BTreeMap::from([(group("arm64"), 5)]));
        let text = metrics.render();
        for (architecture, count) in [("amd64", 0), ("arm64", 5)] {
            let line = format!("isobar_nodes{{cluster=\"home\",architecture=\"{architecture}\",os=\"linux\",gpu=\"none\"}} {count}\n");
            assert!(text.contains(&line), "missing {line} in\n{text}");
        }
    }

    #[test]
    fn kinds_of_nodes_are_bounded_and_none_is_lost() {
        let metrics = Metrics::new();
        let counts: BTreeMap<_, _> = (0..NODE_GROUPS_MAX + 3).map(|number| (group(&format!("{number:04}")), 2)).collect();
        let mut nodes = NodeGauges::new(&metrics);
        for _ in 0..2 {
            nodes.set(&counts);
            assert!(metrics.render().contains("{cluster=\"other\",architecture=\"other\",os=\"other\",gpu=\"other\"} 6\n"));
        }
        assert_eq!(nodes.handles.len(), NODE_GROUPS_MAX + 1);
    }

    #[test]
    fn a_refused_configuration_shows_until_a_good_one_comes() {
        let metrics = Metrics::new();
        let config = ConfigMetrics::new(&metrics);
        let has = |line: &str| assert!(metrics.render().contains(line), "missing {line} in\n{}", metrics.render());
        config.loaded(Timestamp(1_500), 1 << 50 | 7);
        has("isobar_config_hash 7\n");
        has("isobar_config_last_reload_success_timestamp_seconds 1.5\n");
        has("isobar_config_reloads_total{result=\"applied\"} 0\n");
        config.refused();
        has("isobar_config_last_reload_successful 0\n");
        config.applied(Timestamp(2_000), 8);
        has("isobar_config_last_reload_successful 1\n");
        has("isobar_config_reloads_total{result=\"refused\"} 1\n");
    }
}

//! A compute cluster as the engine knows it. In: what its supervisor says. Out: what filters and scores of clusters read.

use super::{ids::ClusterId, labels::LabelFacts, resources::ResourceList};

/// One compute cluster. Sent before its nodes, and again whenever something of it changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterFacts {
    /// Its number while this process runs; a cluster that is removed and added again gets a new one.
    pub id: ClusterId,
    /// Name of the `ComputeCluster`.
    pub name: Box<str>,
    /// Why it takes no pods now, in words for people (`cluster is cordoned`); `None` when it does.
    pub closed: Option<Box<str>>,
    /// Only nodes with these labels are used.
    pub node_selector: LabelFacts,
    /// Nodes with a taint of one of these keys are not used.
    pub excluded_taints: Vec<Box<str>>,
    /// Kept free on each node.
    pub reserve: ResourceList,
    /// Most runs at once.
    pub runs_max: Option<u32>,
    /// Most that all runs together may request.
    pub resource_cap: ResourceList,
    /// What is left of the run namespace's quota for requests; absent resources are unlimited. Counts down by what is decided here until it is told anew.
    pub quota_left: ResourceList,
    /// 0 to 100.
    pub preference: u8,
    /// Names of data sets that are near.
    pub data: Vec<Box<str>>,
    /// What claims of home may travel there.
    pub claims: Vec<ClaimRule>,
    /// Whether pods with host ports may go there.
    pub host_ports: bool,
    /// Drivers of inline CSI volumes that may go there.
    pub csi_drivers: Vec<Box<str>>,
    /// Servers of inline NFS volumes that may go there.
    pub nfs_servers: Vec<Box<str>>,
    /// Runtime classes that have a counterpart there.
    pub runtime_classes: Vec<Box<str>>,
}

/// Claims that are mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimRule {
    /// Pattern of the namespace with `*`; empty matches all.
    pub namespace: Box<str>,
    /// Pattern of the name with `*`; empty matches all.
    pub name: Box<str>,
    /// Labels of the claim.
    pub labels: LabelFacts,
}

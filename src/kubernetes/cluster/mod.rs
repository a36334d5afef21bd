//! Compute clusters, from their objects to their connections. In: `ComputeCluster` objects and Secrets. Out: a supervised tree of watches and workers for each,
//! its conditions, its virtual Node.

pub mod directory;

//! The nouns: what scheduling needs to know of pods, nodes and clusters, and nothing else. No I/O, no clock, no Kubernetes types.
//!
//! Two forms of each thing. *Facts* are what an object says, with its strings, made by the wire layer on any thread. *Records* are what the
//! cache keeps: strings interned, everything shared by pods of one template held once in a [`class::PodClass`].

pub mod affinity;
pub mod affinity_faults;
pub mod budget;
pub mod class;
pub mod cluster;
pub mod devices;
pub mod features;
pub mod fnv;
pub mod gang;
pub mod ids;
pub mod image;
pub mod in_tree;
pub mod intern;
pub mod labels;
pub mod node;
pub mod placement;
pub mod pod;
pub mod ports;
pub mod quantity;
pub mod requests;
pub mod resources;
pub mod selector;
pub mod short_text;
pub mod storage;
pub mod taints;
pub mod terms;
pub mod time;
pub mod volumes;

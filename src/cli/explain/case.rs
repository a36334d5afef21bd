//! One question and its answer: profiles, objects and the name of a pod in; what the engine says, and what its nodes are, out.

use std::collections::BTreeMap;

use super::objects::{Objects, PodObject};
use crate::model::{
    fnv::fnv1a,
    gang::Membership,
    ids::{ClusterId, PodKey, PodUid},
    image::Platforms,
    node::{ARCH_LABEL, GPU_MODEL_LABELS, NodeFacts, OS_LABEL, ZONE_LABEL},
    placement::{HOME_CLUSTER, RUN_HOME_UID, is_virtual_node},
    pod::PodFacts,
    time::Timestamp,
};
use crate::scheduler::{
    engine::{Engine, EngineSettings},
    explain::Explanation,
    input::{Command, Input, PodRef},
    observe::Silent,
    profile::ProfileSpec,
    profiles::{OutOfTree, ProfileError},
};

/// Pods named when the one that is asked about is not among them.
const NAMES_SHOWN_MAX: usize = 5;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The pod is not there.
    #[error("pod {pod} is not among the objects{}", near(.known))]
    NoSuchPod {
        /// The name.
        pod: PodKey,
        /// Names that are there.
        known: Vec<String>,
    },
    /// The name is none.
    #[error("{0:?} names no pod: write namespace/name")]
    BadName(String),
    /// The configuration does not make profiles.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

fn near(known: &[String]) -> String {
    match known {
        [] => ", which hold no pods".to_owned(),
        some if some.len() > NAMES_SHOWN_MAX => {
            format!("; there are {} and {} more", some[..NAMES_SHOWN_MAX].join(", "), some.len() - NAMES_SHOWN_MAX)
        }
        some => format!("; there are {}", some.join(", ")),
    }
}

/// What a node is, for people who have many kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeKind {
    /// `amd64`, `arm64`; empty if unknown.
    pub architecture: String,
    /// `linux`; empty if unknown.
    pub operating_system: String,
    /// As vendors' discovery names it; empty if it has none or does not say.
    pub gpu_model: String,
    /// Availability zone; empty if unknown.
    pub zone: String,
    /// The cluster.
    pub cluster: String,
}

impl NodeKind {
    fn of(facts: &NodeFacts, cluster: &str) -> Self {
        let label = |key: &str| facts.label(key).unwrap_or_default().to_owned();
        let or_else = |key: &str, other: &str| facts.label(key).unwrap_or(other).to_owned();
        Self {
            architecture: or_else(ARCH_LABEL, &facts.architecture),
            operating_system: or_else(OS_LABEL, &facts.operating_system),
            gpu_model: GPU_MODEL_LABELS.iter().find_map(|key| facts.label(key)).unwrap_or_default().to_owned(),
            zone: label(ZONE_LABEL),
            cluster: cluster.to_owned(),
        }
    }

    /// Architecture and GPU model: what most refusals turn on.
    pub fn short(&self) -> String {
        let architecture = if self.architecture.is_empty() { "?" } else { &self.architecture };
        if self.gpu_model.is_empty() { architecture.to_owned() } else { format!("{architecture}+{}", self.gpu_model) }
    }
}

/// An answer with what the table form shows beside it.
#[derive(Debug)]
pub struct Answer {
    /// What the engine says.
    pub explanation: Explanation,
    /// Kinds of nodes by name.
    pub kinds: BTreeMap<String, NodeKind>,
    /// Where the pod runs already.
    pub runs_on: Option<String>,
}

/// Reads `namespace/name`; a name alone is in `default`.
pub fn pod_key(text: &str) -> Result<PodKey, CaseError> {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        return Err(CaseError::BadName(text.to_owned()));
    }
    Ok(PodKey::new(namespace, name))
}

/// A pod and the cluster as it finds it.
pub struct World {
    engine: Engine,
    asked: PodFacts,
    kinds: BTreeMap<String, NodeKind>,
    runs_on: Option<String>,
}

impl World {
    /// Puts nodes and placed pods into an engine, the pod that is asked about left out. One that a scheduler has placed is taken off its node; one that
    /// merely names a node goes on naming it. Its run on a compute cluster is left out with it.
    pub fn new(profiles: &[ProfileSpec], objects: Objects, pod: &PodKey) -> Result<Self, CaseError> {
        let (asked, others) = single_out(objects.pods, pod)?;
        let mut engine = Engine::new(profiles.to_vec(), OutOfTree::default(), EngineSettings::default(), Box::new(Silent))?;
        let home = objects.nodes.iter().map(|node| (node.name.to_string(), NodeKind::of(node, HOME_CLUSTER)));
        let kinds = home.chain(kinds_abroad(&objects.abroad)).collect();
        let mut effects = Vec::new();
        for input in objects.abroad.into_iter().filter(|input| !is_run_of(input, &asked.facts.uid)) {
            engine.handle(Timestamp(0), input, &mut effects);
        }
        for input in objects.others {
            engine.handle(Timestamp(0), input, &mut effects);
        }
        for node in objects.nodes {
            engine.handle(Timestamp(0), Input::Node(Box::new(node)), &mut effects);
        }
        // Of pods that wait only those matter that are to get a node, and the others of a group.
        let (namespace, group) = (asked.facts.key.namespace.clone(), asked.facts.group.clone());
        let is_one_group = |pod: &PodFacts| pod.key.namespace == namespace && is_same(pod.group.as_deref(), group.as_deref());
        let matters = |pod: &PodFacts| pod.node_name.is_some() || pod.nominated_node.is_some() || is_one_group(pod);
        for pod in others.into_iter().filter(|pod| matters(&pod.facts)) {
            engine.handle(Timestamp(0), Input::Pod(Box::new(pod.facts)), &mut effects);
        }
        let PodObject { facts: mut asked, scheduled } = asked;
        let runs_on = asked.node_name.take_if(|_| scheduled).map(|node| match &asked.recorded {
            Some(recorded) if is_virtual_node(&node, &recorded.cluster) => format!("{}/{}", recorded.cluster, recorded.node),
            _ => node.into(),
        });
        Ok(Self { engine, asked, kinds, runs_on })
    }

    /// Images of which the answer depends on their platforms, to be found out by [`Self::learn`]: what the engine asks when such a pod comes.
    pub fn images(&mut self) -> Option<(PodRef, Vec<Box<str>>)> {
        let pending = PodFacts { node_name: None, recorded: None, ..self.asked.clone() };
        let uid = pending.uid.clone();
        let mut effects = Vec::new();
        for input in [Input::Leading(true), Input::Pod(Box::new(pending)), Input::PodGone(ClusterId::HOME, uid), Input::Leading(false)] {
            self.engine.handle(Timestamp(0), input, &mut effects);
        }
        effects.into_iter().find_map(|effect| if let Command::ResolveImages(pod, images) = effect { Some((pod, images)) } else { None })
    }

    /// The answer to a question of [`Self::images`].
    pub fn learn(&mut self, image: Box<str>, platforms: Platforms) {
        self.engine.handle(Timestamp(0), Input::ImagePlatforms(image, platforms), &mut Vec::new());
    }

    /// The engine's answer. Equal `seed`, `id` and pod give equal outcomes of a tie; different ones are uniform over the best nodes.
    pub fn explain(&mut self, seed: u64, id: &str) -> Explanation {
        self.engine.explain(&self.asked, draw(seed, id, &self.asked.uid.0))
    }

    /// The answer with what the table form shows beside it.
    pub fn answer(mut self, seed: u64, id: &str) -> Answer {
        Answer { explanation: self.explain(seed, id), kinds: self.kinds, runs_on: self.runs_on }
    }
}

/// Whether two pods of one namespace say that they are of one group.
fn is_same(one: Option<&Membership>, other: Option<&Membership>) -> bool {
    match (one, other) {
        (Some(Membership::Gang { name: one, .. }), Some(Membership::Gang { name: other, .. }))
        | (Some(Membership::PodGroup(one)), Some(Membership::PodGroup(other))) => one == other,
        _ => false,
    }
}

/// Nodes of compute clusters by the names that the engine gives them.
fn kinds_abroad(inputs: &[Input]) -> BTreeMap<String, NodeKind> {
    let (mut names, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    for input in inputs {
        match input {
            Input::Cluster(facts) => drop(names.insert(facts.id, &facts.name)),
            Input::Node(node) => {
                let cluster = names.get(&node.cluster).map_or("", |name| &***name);
                kinds.insert(format!("{cluster}/{}", node.name), NodeKind::of(node, cluster));
            }
            _ => {}
        }
    }
    kinds
}

fn is_run_of(input: &Input, home: &PodUid) -> bool {
    let Input::Pod(pod) = input else { return false };
    pod.labels.iter().any(|(key, value)| **key == *RUN_HOME_UID && **value == *home.0)
}

fn single_out(mut pods: Vec<PodObject>, wanted: &PodKey) -> Result<(PodObject, Vec<PodObject>), CaseError> {
    match pods.iter().position(|pod| pod.facts.key == *wanted) {
        Some(at) => Ok((pods.remove(at), pods)),
        None => Err(CaseError::NoSuchPod { pod: wanted.clone(), known: pods.iter().map(|pod| pod.facts.key.to_string()).collect() }),
    }
}

/// What decides a tie. FNV-1a over what tells the repeats apart, then the finaliser of `SplitMix64`, so that neighbouring ids fall far apart.
fn draw(seed: u64, id: &str, uid: &str) -> u64 {
    let bytes = id.bytes().chain([0xff]).chain(uid.bytes());
    let hash = fnv1a(seed, bytes);
    let mut mixed = hash.wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

//! Why a pod is pending, or why it goes where it goes: the same rules over the same nodes as a decision, with every answer kept and named.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde::Serialize;

use super::{
    cache::Cache,
    engine::{
        Engine, GROUP_PLUGIN, Parts,
        room::{self, Crowd, Scene, Verdict},
    },
    framework::{Nomination, PodInHand, Refusal, RefusalCode, UNSCORED, Victim},
    nodes::Nodes,
    preemption::{Budgets, Nominations},
    profiles::{PluginIx, Profile},
    select,
    view::{ClassView, Outlook},
};
use crate::model::{
    class::PodClass,
    ids::{ClusterId, NodeIx},
    labels::Labels,
    pod::PodFacts,
};

/// The answer in full; its JSON form is stable and documented in `docs/explain.md`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `namespace/name`.
    pub pod: String,
    /// The profile that serves the pod's scheduler name.
    pub profile: String,
    /// What is broken, if anything: then there is no decision.
    pub error: Option<String>,
    /// The PreEnqueue plugin that holds the pod back; nothing else is asked then.
    pub gated: Option<String>,
    /// The plugin that refuses the pod before any node is looked at.
    pub prefilter: Option<Refused>,
    /// Nodes that do not take the pod: the first refusing plugin in the profile's order, and all its reasons.
    pub infeasible: BTreeMap<String, Refused>,
    /// Nodes that take the pod, by name.
    pub feasible: Vec<String>,
    /// Scores by plugin in profile order, then by feasible node; a plugin that skips the pod is absent.
    pub scores: IndexMap<String, BTreeMap<String, NodeScores>>,
    /// Weighted sums of feasible nodes.
    pub total: BTreeMap<String, i64>,
    /// Nodes with the highest total, by name.
    pub best: Vec<String>,
    /// The one that is taken.
    pub chosen: Option<String>,
    /// What preemption would do.
    pub preemption: Option<Preemption>,
    /// Text of condition `PodScheduled=False`, if the pod stays.
    pub message: Option<String>,
}

/// Who refuses, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The plugin.
    pub plugin: String,
    /// Whether removing other pods could help.
    pub code: RefusalCode,
    /// All its reasons, in its order.
    pub reasons: Vec<String>,
}

/// The three forms of a score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeScores {
    /// As the plugin gave it.
    pub raw: i64,
    /// 0..=100.
    pub normalized: i64,
    /// Times the plugin's weight.
    pub weighted: i64,
}

/// Whom preemption would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Preemption {
    /// The node on which room would be made.
    pub nominated: String,
    /// `namespace/name` of the pods that would go, the most important first; those that are going already are not among them.
    pub victims: Vec<String>,
    /// Other nodes that nothing tells apart from that one, with their victims.
    pub equally_good: BTreeMap<String, Vec<String>>,
}

impl Engine {
    /// Explains the decision about a pod as things stand, without deciding anything. The pod itself must not be counted on a node.
    /// `draw` selects the outcome of a random tie-break: the same number, the same node.
    pub fn explain(&mut self, facts: &PodFacts, draw: u64) -> Explanation {
        let mut explanation =
            Explanation { pod: facts.key.to_string(), profile: facts.spec.scheduler_name.to_string(), ..Explanation::default() };
        let held = self.held_for_group(facts);
        let nodes = &mut self.parts_to_explain().cache.nodes;
        let mut class = PodClass::new(&facts.key.namespace, &facts.spec, &mut nodes.symbols);
        let labels = Labels::intern(&facts.labels, &mut nodes.symbols);
        class.labels = nodes.terms.read(&class, &labels);
        class.node_name = facts.node_name.as_deref().map(|name| nodes.symbols.intern(name));
        // Again, as other pods may have labels that nobody read before.
        let Parts { cache, profiles, nominations, budgets } = self.parts_to_explain();
        cache.nodes.terms.prepare(None, &class);
        let profile = profiles.named(class.scheduler_name).and_then(|ix| profiles.get_mut(ix));
        let Some(profile) = profile else {
            explanation.error =
                Some(format!("no profile has the scheduler name {:?}: another scheduler serves this pod", explanation.profile));
            return explanation;
        };
        if let Some(why) = held.filter(|_| facts.gates.is_empty()) {
            (explanation.gated, explanation.message) = (Some(GROUP_PLUGIN.into()), Some(why.to_string()));
            return explanation;
        }
        let hand = PodInHand { key: &facts.key, uid: &facts.uid, class: &class, gates: &facts.gates };
        let nominated = facts.nominated_node.as_deref().and_then(|name| cache.nodes.find(ClusterId::HOME, name));
        let nominated = nominated.filter(|ix| cache.nodes.get(*ix).present);
        explanation.explain_with(profile, hand, &Others { cache, nominations, budgets, nominated }, draw);
        explanation
    }
}

/// What else bears on a decision.
struct Others<'a> {
    cache: &'a Cache,
    nominations: &'a Nominations,
    budgets: &'a Budgets,
    nominated: Option<NodeIx>,
}

impl Explanation {
    fn explain_with(&mut self, profile: &mut Profile, hand: PodInHand<'_>, others: &Others<'_>, draw: u64) {
        let gates = profile.pre_enqueue.iter().filter_map(|plugin| Some((*plugin, profile.plugins[*plugin].pre_enqueue()?)));
        let gate = gates.into_iter().find(|(_, plugin)| plugin.gate(hand).is_some());
        if let Some((plugin, _)) = gate {
            self.gated = Some(profile.plugin_name(plugin).into());
            return;
        }
        let nodes = &others.cache.nodes;
        let mut view = ClassView::new(profile, hand.class, nodes);
        let crowd = Crowd::new(&mut view, hand.class, hand.uid, others.nominations, others.cache);
        let own = others.nominated.filter(|ix| crowd.leaves(&view, *ix));
        let is_own = own.is_some();
        let open = own.map_or_else(|| crowd.open(&view), |own| vec![own]);
        match view.outlook() {
            Outlook::Broken(plugin, why) if open.len() != 1 => {
                self.error = Some(format!("running plugin {:?}: {why}", profile.plugin_name(plugin)));
            }
            Outlook::Feasible(_) | Outlook::Broken(..) if !open.is_empty() => self.feasible(&mut view, profile, nodes, &open, draw),
            _ => self.infeasible(&mut view, profile, hand, others, &crowd, draw),
        }
        // The node that was cleared for the pod is taken before any other is asked.
        if !is_own {
            self.name_refusals(&mut view, profile, nodes, &crowd);
        }
    }

    fn infeasible(
        &mut self,
        view: &mut ClassView,
        profile: &mut Profile,
        hand: PodInHand<'_>,
        others: &Others<'_>,
        crowd: &Crowd,
        draw: u64,
    ) {
        let Others { cache, budgets, nominated, .. } = *others;
        let Verdict { message, room, .. } =
            room::seek(view, profile, hand, &Scene { cache, budgets, crowd, nominated, draw, cleared: None, wants_offers: false });
        self.message = Some(message.to_string());
        let Nomination::Node(ix) = room.nomination else { return };
        let named = |victims: &[Victim]| {
            let staying = victims.iter().filter(|victim| !victim.is_terminating);
            staying.map(|victim| victim.key.to_string()).collect()
        };
        self.preemption = Some(Preemption {
            nominated: shown(ix, &cache.nodes),
            victims: named(&room.victims),
            equally_good: room.equally_good.iter().map(|(ix, victims)| (shown(*ix, &cache.nodes), named(victims))).collect(),
        });
    }

    fn name_refusals(&mut self, view: &mut ClassView, profile: &Profile, nodes: &Nodes, crowd: &Crowd) {
        if self.error.is_some() && !view.asks_nodes() {
            return;
        }
        let diagnosis = view.diagnosis(profile, nodes);
        let named = |(plugin, refusal): &(PluginIx, Refusal)| Refused {
            plugin: profile.plugin_name(*plugin).into(),
            code: refusal.code,
            reasons: refusal.reasons.iter().map(ToString::to_string).collect(),
        };
        self.prefilter = diagnosis.pre_filter.as_ref().map(named);
        for (ix, _) in nodes.iter() {
            if let Some(refused) = crowd.refusal(ix).or_else(|| diagnosis.of(ix)) {
                self.infeasible.insert(shown(ix, nodes), named(refused));
            }
        }
    }

    fn feasible(&mut self, view: &mut ClassView, profile: &Profile, nodes: &Nodes, open: &[NodeIx], draw: u64) {
        self.feasible = sorted(open.iter().map(|ix| shown(*ix, nodes)));
        let (mut rng, mut start) = (Pcg64Mcg::seed_from_u64(profile.seed ^ draw), 0);
        let is_narrowed = open.len() < view.feasible_count();
        if is_narrowed {
            view.answer_for(open);
        }
        for lane in view.lanes() {
            let extremes = if is_narrowed { select::extremes_of(lane, open) } else { lane.extremes() };
            let score = |ix: NodeIx| {
                let raw = lane.raw(ix);
                let normalized = lane.normalised(raw, extremes);
                let raw = if raw == UNSCORED { 0 } else { raw };
                NodeScores { raw, normalized, weighted: normalized.saturating_mul(lane.weight) }
            };
            let by_node = open.iter().map(|ix| (shown(*ix, nodes), score(*ix))).collect();
            self.scores.insert(profile.plugin_name(lane.plugin).into(), by_node);
        }
        let weighted =
            |name: &String| self.scores.values().filter_map(|by_node| by_node.get(name)).map(|score| score.weighted).sum::<i64>();
        self.total = self.feasible.iter().map(|name| (name.clone(), weighted(name))).collect();
        let highest = self.total.values().max().copied();
        self.best = self.total.iter().filter(|(_, total)| Some(**total) == highest).map(|(name, _)| name.clone()).collect();
        let chosen = if is_narrowed {
            select::choose_among(view, open, profile, nodes, &mut rng, &mut start)
        } else {
            select::choose(view, profile, nodes, &mut rng, &mut start)
        };
        self.chosen = chosen.map(|ix| shown(ix, nodes));
    }
}

fn shown(ix: NodeIx, nodes: &Nodes) -> String {
    nodes.full_name(ix).into_owned()
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

//! `ImageLocality`: prefers nodes that have the pod's images, the more bytes the better. Image names in, raw scores 0..=100 out.
//!
//! Source: kube-scheduler v1.37 `ImageLocality`. An image's size is scaled by the share of nodes that hold it, so that one node with everything does
//! not draw all pods. Most images are too small or too rare to reach the threshold anywhere: then the score is 0 for all without a look at nodes.

use fixedbitset::FixedBitSet;
use smallvec::SmallVec;

use super::sweep;
use crate::{
    model::{class::PodClass, intern::Sym, node::NodeRecord},
    scheduler::{
        change::Changes,
        framework::{CompiledScore, NodeScore, Normalise, Plugin, Reads, SCORE_MAX, ScorePlugin},
        nodes::Nodes,
    },
};

const MIB: i64 = 1024 * 1024;
/// Upstream's `minThreshold`: below 23 MiB an image does not count.
const THRESHOLD_MIN_BYTES: i64 = 23 * MIB;
/// Upstream's `maxContainerThreshold`: more than 1000 MiB for each image is as good as that.
const THRESHOLD_MAX_BYTES_PER_IMAGE: i64 = 1000 * MIB;

/// See the module.
pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn score(&self) -> Option<&dyn ScorePlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::NONE
    }
}

impl ScorePlugin for ImageLocality {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledScore {
        let worth = worth(&class.images, nodes);
        CompiledScore::Score(Box::new(Locality { images: class.images.clone(), worth }))
    }
}

/// What each image is worth where it is; at most a handful.
type Worth = SmallVec<[(Sym, i64); 4]>;

struct Locality {
    /// One entry for each container, init container and image volume.
    images: Box<[Sym]>,
    /// Empty when even all images together are worth nothing.
    worth: Worth,
}

/// Sizes of the images, scaled; none when their sum stays below the threshold.
fn worth(images: &[Sym], nodes: &Nodes) -> Worth {
    let scaled = images.iter().map(|image| (*image, scaled_size(*image, nodes))).filter(|(_, bytes)| *bytes > 0);
    let worth: Worth = scaled.collect();
    let most = worth.iter().fold(0_i64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    if priority(most, images.len()) == 0 { Worth::new() } else { worth }
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // upstream's conversions
fn scaled_size(image: Sym, nodes: &Nodes) -> i64 {
    let state = nodes.image(image);
    if state.nodes == 0 {
        return 0;
    }
    let spread = f64::from(state.nodes) / nodes.present() as f64;
    (state.size_bytes as f64 * spread) as i64
}

/// From bytes to 0..=100.
fn priority(bytes: i64, images: usize) -> i64 {
    let max = THRESHOLD_MAX_BYTES_PER_IMAGE.saturating_mul(i64::try_from(images).unwrap_or(i64::MAX));
    let counted = bytes.min(max).max(THRESHOLD_MIN_BYTES);
    // Without images there is nothing to divide by: `max` is below the minimum then, and `counted` is at it.
    SCORE_MAX * (counted - THRESHOLD_MIN_BYTES) / (max - THRESHOLD_MIN_BYTES)
}

impl Locality {
    fn score(&self, node: &NodeRecord) -> i64 {
        if node.images.is_empty() {
            return 0;
        }
        let held = self.worth.iter().filter(|(image, _)| node.images.binary_search(image).is_ok());
        priority(held.map(|(_, bytes)| bytes).sum(), self.images.len())
    }
}

impl NodeScore for Locality {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn raw(&self, node: &NodeRecord, _nodes: &Nodes) -> i64 {
        if self.worth.is_empty() { 0 } else { self.score(node) }
    }

    fn raw_all(&self, nodes: &Nodes, set: &FixedBitSet, lane: &mut [i64]) {
        if self.worth.is_empty() {
            sweep::fill(nodes, set, lane, |_| 0);
        } else {
            sweep::fill(nodes, set, lane, |node| self.score(node));
        }
    }

    fn normalise(&self) -> Normalise {
        Normalise::AsIs
    }

    fn uniform(&self) -> Option<i64> {
        self.worth.is_empty().then_some(0)
    }

    fn outdated(&self, nodes: &Nodes) -> bool {
        worth(&self.images, nodes) != self.worth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::pod::PodSpecFacts,
        scheduler::{
            plugins::fixtures::{MI, World, node, pod, with_images},
            profile::PluginArgs,
        },
    };

    fn images(names: &[&str]) -> PodSpecFacts {
        PodSpecFacts { images: names.iter().map(|name| Box::from(*name)).collect(), ..pod(&[]) }
    }

    #[test]
    fn bytes_between_the_thresholds() {
        for (held, wanted, want) in [
            (&[("big:1", 1000 * MI)][..], &["big:1"][..], 100),
            (&[("big:1", 5000 * MI)], &["big:1"], 100),
            (&[("big:latest", 1000 * MI)], &["big"], 100),
            (&[("big:1", 1000 * MI)], &["big:2"], 0),
            (&[("a:1", 23 * MI)], &["a:1"], 0),
            // One percent of 977 MiB above 23, and one byte less.
            (&[("a:1", 23 * MI + 10_244_588)], &["a:1"], 1),
            (&[("a:1", 23 * MI + 10_244_587)], &["a:1"], 0),
            // Two containers share a limit of 2000 MiB; the same image counts for each.
            (&[("a:1", 500 * MI)], &["a:1", "b:1"], 100 * (500 - 23) / (2000 - 23)),
            (&[("a:1", 500 * MI)], &["a:1", "a:1"], 100 * (1000 - 23) / (2000 - 23)),
            (&[("a:1", 500 * MI)], &[], 0),
        ] {
            let mut world = World::new([with_images("a", held)]);
            assert_eq!(world.score("ImageLocality", &PluginArgs::default(), &images(wanted)), [want], "{held:?} {wanted:?}");
        }
    }

    #[test]
    fn scaled_by_the_share_of_nodes_that_hold_it() {
        let mut world = World::new([with_images("a", &[("x:1", 1000 * MI)]), node("b"), with_images("c", &[("y:1", 90 * MI)]), node("d")]);
        assert_eq!(world.score("ImageLocality", &PluginArgs::default(), &images(&["x:1"])), [100 * (250 - 23) / 977, 0, 0, 0]);
        assert_eq!(world.score("ImageLocality", &PluginArgs::default(), &images(&["y:1"])), [0, 0, 0, 0], "22.5 MiB");
        // An image that is too rare alone adds to another.
        let both = world.score("ImageLocality", &PluginArgs::default(), &images(&["x:1", "y:1"]));
        assert_eq!(both, [100 * (250 - 23) / 1977, 0, 0, 0]);
    }

    #[test]
    fn outdated_when_worth_changes() {
        let mut world = World::new([node("a"), node("b")]);
        let class = world.class(&images(&["x:1"]));
        let compile = |world: &World| match ImageLocality.compile(&class, &world.nodes) {
            CompiledScore::Score(score) => score,
            _ => panic!("always scores"),
        };
        let score = compile(&world);
        assert_eq!((score.uniform(), score.outdated(&world.nodes)), (Some(0), false));
        world.add(&node("c"));
        world.add(&with_images("c", &[("x:1", MI)]));
        assert!(!score.outdated(&world.nodes), "still worth nothing");
        world.add(&with_images("d", &[("y:1", MI), ("x:1", 900 * MI)]));
        assert!(!score.outdated(&world.nodes), "the first report of a size holds");
        world.add(&with_images("c", &[]));
        world.add(&with_images("d", &[]));
        world.add(&with_images("d", &[("x:1", 900 * MI)]));
        assert!(score.outdated(&world.nodes));
        let score = compile(&world);
        assert_eq!(score.uniform(), None);
        world.add(&node("e"));
        assert!(score.outdated(&world.nodes), "another share of nodes");
    }
}

//! How `NodeResourcesFit` ranks nodes: `LeastAllocated`, `MostAllocated`, `RequestedToCapacityRatio`. Shares in, raw scores 0..=100 out.
//!
//! Source: kube-scheduler v1.37 `leastResourceScorer`, `mostResourceScorer`, `buildRequestedToCapacityRatioScorerFunction`: integers, rounded down.

use fixedbitset::FixedBitSet;

use super::{
    resource_shares::{Share, cpu_and_memory},
    sweep,
};
use crate::{
    model::node::NodeRecord,
    scheduler::{
        framework::{NodeScore, Normalise, Reads, SCORE_MAX},
        nodes::Nodes,
        profile::{ScoringStrategy, ShapePoint},
    },
};

/// The score of a strategy for the shares of a class.
pub fn score(strategy: &ScoringStrategy, shares: Box<[Share]>) -> Box<dyn NodeScore> {
    match strategy {
        ScoringStrategy::LeastAllocated => Box::new(Allocation { formula: Least, shares }),
        ScoringStrategy::MostAllocated => Box::new(Allocation { formula: Most, shares }),
        ScoringStrategy::RequestedToCapacityRatio(points) => Box::new(Allocation { formula: Shape::new(points), shares }),
    }
}

/// How one share scores, and how shares are put together.
trait Formula: Send {
    /// Score of a share; `total` is not zero.
    fn share(&self, used: i64, total: i64) -> i64;
    /// Whether a share takes part in the mean.
    fn counts(&self, _score: i64) -> bool {
        true
    }
    /// The mean of what takes part; `weights` is positive. Both are small, which makes even an integer division cheap.
    fn mean(&self, sum: i64, weights: i64) -> i64 {
        sum / weights
    }
}

struct Least;

impl Formula for Least {
    fn share(&self, used: i64, total: i64) -> i64 {
        if used > total { 0 } else { percent(total - used, total) }
    }
}

struct Most;

impl Formula for Most {
    /// Pods without requests count as small ones, so more than everything may be in use.
    fn share(&self, used: i64, total: i64) -> i64 {
        percent(used.min(total), total)
    }
}

/// The score at each whole percent in use.
#[derive(Clone)]
pub(super) struct Shape([i64; 101]);

impl Shape {
    /// With the corners of a file.
    pub(super) fn new(points: &[ShapePoint]) -> Self {
        // Files give 0..=10.
        let corners: Vec<(i64, i64)> = points.iter().map(|point| (i64::from(point.utilization), i64::from(point.score) * 10)).collect();
        let mut table = [0; 101];
        for (percent, place) in (0..).zip(&mut table) {
            *place = broken_line(&corners, percent);
        }
        Self(table)
    }

    /// The score at a percentage; beyond the range that of nothing in use.
    pub(super) fn at(&self, percent: i64) -> i64 {
        usize::try_from(percent).ok().and_then(|at| self.0.get(at)).copied().unwrap_or(self.0[0])
    }
}

/// Upstream's `BuildBrokenLinearFunction`: flat outside, linear between the corners, rounded towards zero from the left corner.
fn broken_line(corners: &[(i64, i64)], at: i64) -> i64 {
    match corners.iter().position(|(x, _)| at <= *x) {
        Some(0) => corners[0].1,
        Some(next) => {
            let ((x0, y0), (x1, y1)) = (corners[next - 1], corners[next]);
            y0 + (y1 - y0) * (at - x0) / (x1 - x0)
        }
        None => corners.last().map_or(0, |(_, y)| *y),
    }
}

impl Formula for Shape {
    fn share(&self, used: i64, total: i64) -> i64 {
        let in_use = if used > total { 100 } else { percent(used, total) };
        usize::try_from(in_use).ok().and_then(|at| self.0.get(at)).copied().unwrap_or(self.0[0])
    }

    /// A share that scores nothing is left out, also of the weights.
    fn counts(&self, score: i64) -> bool {
        score > 0
    }

    /// Go's `math.Round`: half away from zero, as Rust's.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // at most 100 x 100 x the number of resources
    fn mean(&self, sum: i64, weights: i64) -> i64 {
        (sum as f64 / weights as f64).round() as i64
    }
}

/// Up to this much the division is done in floating point: 16 TiB of memory, or 17 billion cores.
const EXACT_MAX: u64 = 1 << 44;

/// floor(part x 100 / total) for 0 <= part <= total; what lies outside is divided as integers, towards zero.
///
/// A 64-bit integer division costs as much as the rest of a score, a floating one a fraction of it, and here both are equal. With total <= 2^44 the
/// dividend is below 2^51, so dividend and divisor are exact as f64. The quotient q is at most 100 < 2^7, so rounding it errs by at most half a unit
/// in the last place of [64, 128), that is 2^-47. If the true quotient is whole, it is representable and comes out exact. If not, it is at least
/// 1/total >= 2^-44 below the next whole number, which an error of 2^-47 does not reach; and rounding is monotonic, so it does not fall below the
/// whole number under it. Hence cutting off the fraction gives the floor.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounds checked; signs turn into large numbers
fn percent(part: i64, total: i64) -> i64 {
    if total as u64 <= EXACT_MAX && part as u64 <= total as u64 {
        return ((part * SCORE_MAX) as f64 / total as f64) as i64;
    }
    i64::try_from(i128::from(part) * i128::from(SCORE_MAX) / i128::from(total)).unwrap_or(0)
}

struct Allocation<F> {
    formula: F,
    shares: Box<[Share]>,
}

impl<F: Formula> Allocation<F> {
    /// `amounts` are what the node has and what its pods use, in the order of the shares.
    fn mean_of<'s>(&self, shares: impl Iterator<Item = (&'s Share, (i64, i64))>) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        for (share, (total, used)) in shares.filter(|(_, (total, _))| *total != 0) {
            let score = self.formula.share(used.saturating_add(share.wanted), total);
            if self.formula.counts(score) {
                sum += score * share.weight;
                weights += share.weight;
            }
        }
        if weights == 0 { 0 } else { self.formula.mean(sum, weights) }
    }
}

impl<F: Formula> NodeScore for Allocation<F> {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn raw(&self, node: &NodeRecord, _nodes: &Nodes) -> i64 {
        self.mean_of(self.shares.iter().map(|share| (share, share.nonzero(node))))
    }

    fn raw_all(&self, nodes: &Nodes, set: &FixedBitSet, lane: &mut [i64]) {
        let Some(pair) = cpu_and_memory(&self.shares) else {
            return sweep::fill(nodes, set, lane, |node| self.raw(node, nodes));
        };
        sweep::fill(nodes, set, lane, |node| {
            let cpu = (node.allocatable.cpu_milli, node.nonzero_cpu_milli);
            let memory = (node.allocatable.memory_bytes, node.nonzero_memory_bytes);
            self.mean_of([(&pair[0], cpu), (&pair[1], memory)].into_iter())
        });
    }

    fn normalise(&self) -> Normalise {
        Normalise::AsIs
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::node::NodeFacts,
        scheduler::{
            plugins::fixtures::{World, node_with, pod},
            profile::{NodeResourcesFitArgs, PluginArgs, ResourceWeight},
        },
    };

    fn shape(points: &[(u8, u8)]) -> ScoringStrategy {
        let point = |(utilization, score): &(u8, u8)| ShapePoint { utilization: *utilization, score: *score };
        ScoringStrategy::RequestedToCapacityRatio(points.iter().map(point).collect())
    }

    fn args(strategy: ScoringStrategy, resources: &[(&str, u32)]) -> PluginArgs {
        let resources = resources.iter().map(|(name, weight)| ResourceWeight { name: (*name).into(), weight: *weight }).collect();
        PluginArgs { node_resources_fit: NodeResourcesFitArgs { strategy, resources, ..Default::default() }, ..Default::default() }
    }

    fn big() -> NodeFacts {
        node_with("a", &[("cpu", "10"), ("memory", "1000Mi"), ("nvidia.com/gpu", "4")])
    }

    /// 4 of 10 cores and 600 of 1000 MiB in use, 1 of 4 GPUs.
    fn busy() -> World {
        let mut world = World::new([big()]);
        world.run("a", &pod(&[("cpu", "4"), ("memory", "600Mi"), ("nvidia.com/gpu", "1")]));
        world
    }

    #[test]
    fn emptier_fuller_or_a_shape() {
        use ScoringStrategy::{LeastAllocated as Least, MostAllocated as Most};
        let cpu_memory = [("cpu", 1), ("memory", 1)].as_slice();
        let bins = || shape(&[(0, 0), (100, 10)]);
        for (strategy, resources, requests, want) in [
            // 50 % of cpu left and 30 % of memory; half and 70 % in use.
            (Least, cpu_memory, &[("cpu", "1"), ("memory", "100Mi")][..], 40),
            (Most, cpu_memory, &[("cpu", "1"), ("memory", "100Mi")], 60),
            // Nothing requested counts as 100m and 200Mi: 59 and 20.
            (Least, cpu_memory, &[], 39),
            // The first milli too much scores nothing; for MostAllocated everything.
            (Least, &[("cpu", 1)], &[("cpu", "6")], 0),
            (Least, &[("cpu", 1)], &[("cpu", "5999m")], 0),
            (Least, &[("cpu", 1)], &[("cpu", "5900m")], 1),
            (Least, cpu_memory, &[("cpu", "6001m"), ("memory", "100Mi")], 15),
            (Most, &[("cpu", 1)], &[("cpu", "7")], 100),
            // Weights, in either order; a scalar only if requested; a resource that the node lacks does not count.
            (Least, &[("memory", 3), ("cpu", 1)], &[("cpu", "1"), ("memory", "100Mi")], (50 + 3 * 30) / 4),
            (Most, &[("cpu", 1), ("nvidia.com/gpu", 3)], &[("cpu", "1"), ("nvidia.com/gpu", "1")], (50 + 3 * 50) / 4),
            (Most, &[("cpu", 1), ("nvidia.com/gpu", 3)], &[("cpu", "1")], 50),
            (Least, &[("cpu", 1), ("ephemeral-storage", 9)], &[("cpu", "1")], 50),
            (Least, &[("ephemeral-storage", 1)], &[], 0),
            (Least, &[("bogus", 1), ("pods", 1)], &[], 0),
            (bins(), cpu_memory, &[("cpu", "1"), ("memory", "100Mi")], 60),
            (bins(), &[("cpu", 1)], &[("cpu", "60")], 100),
            (shape(&[(0, 10), (100, 0)]), cpu_memory, &[("cpu", "1"), ("memory", "100Mi")], 40),
            // Shares that score nothing leave the mean: cpu at 100 % does.
            (shape(&[(0, 10), (100, 0)]), cpu_memory, &[("cpu", "6"), ("memory", "100Mi")], 30),
            // Rounded half up: (50 + 70 + 70) / 3 = 63.3, (50 + 71) / 2 = 60.5.
            (bins(), &[("cpu", 1), ("memory", 2)], &[("cpu", "1"), ("memory", "100Mi")], 63),
            (bins(), cpu_memory, &[("cpu", "1"), ("memory", "110Mi")], 61),
            // Between corners towards zero from the left corner, flat outside.
            (shape(&[(50, 0), (60, 10)]), &[("cpu", 1)], &[("cpu", "1")], 0),
            (shape(&[(50, 0), (60, 10)]), &[("cpu", 1)], &[("cpu", "1500m")], 50),
            (shape(&[(50, 0), (60, 10)]), &[("cpu", 1)], &[("cpu", "3")], 100),
            (shape(&[(40, 10), (70, 0)]), &[("cpu", 1)], &[("cpu", "1")], 67),
        ] {
            let got = busy().score("NodeResourcesFit", &args(strategy.clone(), resources), &pod(requests));
            assert_eq!(got, [want], "{strategy:?} {resources:?} {requests:?}");
        }
    }

    #[test]
    fn upstreams_line_between_corners() {
        let corners = [(0, 0), (30, 100), (100, 50)];
        for (at, want) in [(0, 0), (1, 3), (15, 50), (30, 100), (31, 100), (32, 99), (99, 51), (100, 50)] {
            assert_eq!(broken_line(&corners, at), want, "{at}");
        }
    }

    fn naive(part: i64, total: i64) -> i64 {
        i64::try_from(i128::from(part) * 100 / i128::from(total)).unwrap_or(-1)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn percents_are_exact(total in prop_oneof![1..=(1_i64 << 44), 1..5000_i64, ((1 << 44) - 50)..((1_i64 << 44) + 50)], part in 0..i64::MAX) {
            let part = part % (total + 1);
            prop_assert_eq!(percent(part, total), naive(part, total));
        }

        /// Near the whole numbers, where a wrong rounding would show.
        #[test]
        fn percents_are_exact_at_the_edges(total in 1..=(1_i64 << 44), whole in 0..=100_i64, off in -2..=2_i64) {
            let part = (total * whole / 100 + off).clamp(0, total);
            prop_assert_eq!(percent(part, total), naive(part, total));
        }

        #[test]
        fn percents_beyond_the_range(total in (1_i64 << 44)..i64::MAX, part in 0..i64::MAX) {
            let part = part.min(total);
            prop_assert_eq!(percent(part, total), naive(part, total));
        }

        #[test]
        fn formulas_equal_the_naive_ones(cpu in 0..200_000_i64, used in 0..300_000_i64, wanted in 0..50_000_i64, weights in (1..100_u32, 1..100_u32)) {
            let resources = [("cpu", weights.0), ("memory", weights.1)];
            let total_bytes = cpu << 20;
            let mut world = World::new([node_with("a", &[("cpu", &format!("{cpu}m")), ("memory", &total_bytes.to_string())])]);
            world.run("a", &pod(&[("cpu", &format!("{used}m")), ("memory", &(used << 19).to_string())]));
            let requests = [("cpu", &*format!("{wanted}m")), ("memory", &*(wanted << 18).to_string())];
            let pairs = [(cpu, used + wanted, i64::from(weights.0)), (total_bytes, (used << 19) + (wanted << 18), i64::from(weights.1))];
            let mean = |share: fn(i64, i64) -> i64| {
                let sum: i64 = pairs.iter().filter(|(total, ..)| *total > 0).map(|(total, used, weight)| share(*used, *total) * weight).sum();
                if cpu == 0 { 0 } else { sum / i64::from(weights.0 + weights.1) }
            };
            let least = mean(|used, total| if used > total { 0 } else { naive(total - used, total) });
            let most = mean(|used, total| naive(used.min(total), total));
            prop_assert_eq!(world.score("NodeResourcesFit", &args(ScoringStrategy::LeastAllocated, &resources), &pod(&requests)), [least]);
            prop_assert_eq!(world.score("NodeResourcesFit", &args(ScoringStrategy::MostAllocated, &resources), &pod(&requests)), [most]);
        }
    }
}

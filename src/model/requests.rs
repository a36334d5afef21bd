//! What a pod asks for: containers, sidecars, overhead, pod-level resources and resizes in; one sum out.
//!
//! Source: `component-helpers/resource` v1.37 (`PodRequests`), KEP-753 (sidecars), KEP-1287 (in-place resize), KEP-2837 (pod-level resources).

use super::{quantity::Quantity, resources::ResourceList};

/// Scores treat a container without a CPU request as a small one, so that such pods still spread.
pub const DEFAULT_CPU: Quantity = Quantity::from_milli(100);
/// As [`DEFAULT_CPU`], for memory: 200 MiB.
pub const DEFAULT_MEMORY: Quantity = Quantity::from_units(200 << 20);

/// The requests of one container, spec and status side by side.
#[derive(Clone, Debug, Default)]
pub struct ContainerRequests {
    /// `resources.requests`.
    pub spec: ResourceList,
    /// Status, for a pod on a node: `allocatedResources`.
    pub allocated: Option<ResourceList>,
    /// Status, for a pod on a node: `resources.requests`.
    pub actuated: Option<ResourceList>,
    /// An init container with `restartPolicy: Always`.
    pub sidecar: bool,
}

/// Everything that a pod's sum depends on.
#[derive(Clone, Debug, Default)]
pub struct PodRequests {
    /// Init containers in order, sidecars among them.
    pub init: Vec<ContainerRequests>,
    /// App containers.
    pub containers: Vec<ContainerRequests>,
    /// `spec.overhead`.
    pub overhead: ResourceList,
    /// `spec.resources.requests`, of cpu, memory and huge pages.
    pub pod_level: ResourceList,
    /// Pod `status.allocatedResources` and `status.resources.requests`; they count when both are there.
    pub pod_level_status: Option<(ResourceList, ResourceList)>,
    /// Condition `PodResizePending` with reason `Infeasible`: the spec is not what will be.
    pub resize_infeasible: bool,
}

/// A pod's sum in the variants that rules use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRequestSums {
    /// What the filter counts and the node pays.
    pub effective: ResourceList,
    /// As `effective`, with the small-pod defaults for containers without cpu or memory: what scores count on nodes.
    pub nonzero: ResourceList,
    /// What `NodeResourcesFit` and others score an incoming pod with: container sums with defaults, without pod-level requests.
    pub nonzero_incoming: ResourceList,
}

#[derive(Clone, Copy)]
enum Source {
    Spec,
    Allocated,
    Actuated,
}

impl PodRequests {
    /// Sums a pod. With statuses absent this is the plain sum of its spec.
    pub fn sums(&self) -> PodRequestSums {
        let effective = self.finish(self.resized(false), false);
        let nonzero = self.finish(self.resized(true), true);
        let nonzero_incoming = if self.pod_level.is_empty() { nonzero.clone() } else { self.without_pod_level() };
        PodRequestSums { effective, nonzero, nonzero_incoming }
    }

    fn without_pod_level(&self) -> ResourceList {
        let mut sum = self.aggregate(Source::Spec, true);
        sum.add(&self.overhead);
        sum
    }

    /// The elementwise maximum over spec, allocated and actuated, each summed for itself; without the spec when the resize cannot happen.
    fn resized(&self, defaults: bool) -> ResourceList {
        if !self.has_status() {
            return self.aggregate(Source::Spec, defaults);
        }
        let mut sum = self.aggregate(Source::Actuated, defaults);
        sum.max(&self.aggregate(Source::Allocated, defaults));
        if !self.resize_infeasible {
            sum.max(&self.aggregate(Source::Spec, defaults));
        }
        sum
    }

    fn has_status(&self) -> bool {
        self.init.iter().chain(&self.containers).any(|container| container.allocated.is_some() || container.actuated.is_some())
    }

    /// The sidecar formula: app containers plus all sidecars, or the largest moment of the start sequence.
    fn aggregate(&self, source: Source, defaults: bool) -> ResourceList {
        let mut sum = ResourceList::default();
        for container in &self.containers {
            sum.add(&self.request_of(container, source, defaults));
        }
        let mut sidecars = ResourceList::default();
        let mut start_max = ResourceList::default();
        for container in &self.init {
            let mut used = self.request_of(container, source, defaults);
            if container.sidecar {
                sum.add(&used);
                sidecars.add(&used);
                used = sidecars.clone();
            } else {
                used.add(&sidecars);
            }
            start_max.max(&used);
        }
        sum.max(&start_max);
        sum
    }

    fn request_of(&self, container: &ContainerRequests, source: Source, defaults: bool) -> ResourceList {
        // When the resize is infeasible, what the status does not say is not made up from the spec.
        let spec = || if self.resize_infeasible { ResourceList::default() } else { container.spec.clone() };
        let allocated = || container.allocated.clone().unwrap_or_else(spec);
        let mut list = match source {
            Source::Spec => container.spec.clone(),
            Source::Allocated => allocated(),
            Source::Actuated => container.actuated.clone().unwrap_or_else(allocated),
        };
        if defaults {
            fill(&mut list);
        }
        list
    }

    fn finish(&self, mut sum: ResourceList, defaults: bool) -> ResourceList {
        if !self.pod_level.is_empty() {
            for (name, quantity) in self.pod_level_effective().iter().filter(|(name, _)| is_pod_level(name)) {
                sum.set(name, quantity);
            }
        }
        if defaults && !self.pod_level.is_empty() {
            fill(&mut sum);
        }
        sum.add(&self.overhead);
        sum
    }

    fn pod_level_effective(&self) -> ResourceList {
        let Some((allocated, actuated)) = &self.pod_level_status else {
            return self.pod_level.clone();
        };
        let mut list = actuated.clone();
        list.max(allocated);
        if !self.resize_infeasible {
            list.max(&self.pod_level);
        }
        list
    }
}

/// Names that `spec.resources` of a pod may set.
fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// An absent request gets the default; an explicit zero stays.
fn fill(list: &mut ResourceList) {
    for (name, default) in [("cpu", DEFAULT_CPU), ("memory", DEFAULT_MEMORY)] {
        if list.get(name).is_none() {
            list.set(name, default);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(milli: i64) -> ContainerRequests {
        let spec = [("cpu".into(), Quantity::from_milli(milli))].into_iter().collect();
        ContainerRequests { spec, ..ContainerRequests::default() }
    }

    fn sidecar(milli: i64) -> ContainerRequests {
        ContainerRequests { sidecar: true, ..cpu(milli) }
    }

    fn milli(list: &ResourceList) -> i64 {
        list.get("cpu").unwrap_or_default().milli()
    }

    #[test]
    fn init_containers_count_by_their_largest_moment() {
        for (init, app, want) in [
            (vec![cpu(500)], vec![cpu(100), cpu(100)], 500),
            (vec![cpu(500)], vec![cpu(300), cpu(300)], 600),
            (vec![sidecar(200), cpu(500)], vec![cpu(100)], 700),
            (vec![cpu(500), sidecar(200)], vec![cpu(400)], 600),
            (vec![sidecar(200), sidecar(100)], vec![cpu(400)], 700),
        ] {
            let pod = PodRequests { init, containers: app, ..PodRequests::default() };
            assert_eq!(milli(&pod.sums().effective), want);
        }
    }

    #[test]
    fn pod_level_requests_replace_sums_but_not_in_the_incoming_score() {
        let pod_level = [("cpu".into(), Quantity::from_milli(1000))].into_iter().collect();
        let pod = PodRequests { containers: vec![cpu(300)], pod_level, ..PodRequests::default() };
        let sums = pod.sums();
        assert_eq!((milli(&sums.effective), milli(&sums.nonzero), milli(&sums.nonzero_incoming)), (1000, 1000, 300));
        assert_eq!(sums.nonzero.get("memory"), Some(DEFAULT_MEMORY));
    }

    #[test]
    fn a_resize_counts_by_its_largest_side() {
        let list = |milli| Some([("cpu".into(), Quantity::from_milli(milli))].into_iter().collect::<ResourceList>());
        for (spec, allocated, actuated, infeasible, want) in [
            (500, list(300), list(200), false, 500),
            (500, list(300), list(200), true, 300),
            (100, list(300), list(400), false, 400),
            (500, None, list(200), true, 200),
        ] {
            let container = ContainerRequests { allocated, actuated, ..cpu(spec) };
            let pod = PodRequests { containers: vec![container], resize_infeasible: infeasible, ..PodRequests::default() };
            assert_eq!(milli(&pod.sums().effective), want, "spec {spec}");
        }
    }

    #[test]
    fn an_absent_request_gets_the_default_and_zero_does_not() {
        let pod = PodRequests { containers: vec![cpu(0), ContainerRequests::default()], ..PodRequests::default() };
        let sums = pod.sums();
        assert_eq!((milli(&sums.effective), milli(&sums.nonzero)), (0, 100));
    }

    #[test]
    fn overhead_is_on_top() {
        let overhead = [("cpu".into(), Quantity::from_milli(7))].into_iter().collect();
        let pod = PodRequests { containers: vec![cpu(10)], overhead, ..PodRequests::default() };
        assert_eq!(milli(&pod.sums().effective), 17);
    }
}

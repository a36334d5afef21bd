//! What a pod asks for: containers, sidecars, overhead, pod-level resources and resizes in; one sum out.
//!
//! Source: `component-helpers/resource` v1.37 (`PodRequests`), KEP-753 (sidecars), KEP-1287 (in-place resize), KEP-2837 (pod-level resources).

use super::{quantity::Quantity, resources::ResourceList};

/// Scores treat a container without a CPU request as a small one, so that such pods still spread.
pub const DEFAULT_CPU: Quantity = Quantity::from_milli(100);
/// As [`DEFAULT_CPU`], for memory: 200 MiB.
pub const DEFAULT_MEMORY: Quantity = Quantity::from_units(200 << 20);

type DefaultRequest = (&'static str, Quantity);
const DEFAULTS: [DefaultRequest; 2] = [("cpu", DEFAULT_CPU), ("memory", DEFAULT_MEMORY)];

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
    /// Pod `status.allocatedResources`, empty if absent, and `status.resources.requests`; `None` without `status.resources`.
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
        let effective = self.finish(self.resized(&[]));
        // With pod-level requests a container gets a default only of what the whole pod does not request.
        let missing = DEFAULTS.iter().filter(|(name, _)| self.pod_level.is_empty() || effective.get(name).is_none());
        let nonzero = self.finish(self.resized(&missing.copied().collect::<Vec<_>>()));
        let nonzero_incoming = if self.pod_level.is_empty() { nonzero.clone() } else { self.without_pod_level() };
        PodRequestSums { effective, nonzero, nonzero_incoming }
    }

    fn without_pod_level(&self) -> ResourceList {
        let mut sum = self.aggregate(Source::Spec, &DEFAULTS);
        sum.add(&self.overhead);
        sum
    }

    /// The elementwise maximum over spec, allocated and actuated, each summed for itself; without the spec when the resize cannot happen.
    fn resized(&self, defaults: &[DefaultRequest]) -> ResourceList {
        let mut sum = match &self.pod_level_status {
            // What the kubelet says of the whole pod holds its sums already, also where the spec has no pod-level requests.
            Some((allocated, actuated)) if !allocated.is_empty() && !actuated.is_empty() => {
                let mut reported = actuated.clone();
                reported.max(allocated);
                reported
            }
            _ if !self.resize_infeasible && !self.has_status() => return self.aggregate(Source::Spec, defaults),
            _ => {
                let mut summed = self.aggregate(Source::Actuated, defaults);
                summed.max(&self.aggregate(Source::Allocated, defaults));
                summed
            }
        };
        if !self.resize_infeasible {
            sum.max(&self.aggregate(Source::Spec, defaults));
        }
        sum
    }

    fn has_status(&self) -> bool {
        self.init.iter().chain(&self.containers).any(|container| container.allocated.is_some() || container.actuated.is_some())
    }

    /// The sidecar formula: app containers plus all sidecars, or the largest moment of the start sequence.
    fn aggregate(&self, source: Source, defaults: &[DefaultRequest]) -> ResourceList {
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

    fn request_of(&self, container: &ContainerRequests, source: Source, defaults: &[DefaultRequest]) -> ResourceList {
        // When the resize is infeasible, what the status does not say is not made up from the spec.
        let spec = || if self.resize_infeasible { ResourceList::default() } else { container.spec.clone() };
        let allocated = || container.allocated.clone().unwrap_or_else(spec);
        let mut list = match source {
            Source::Spec => container.spec.clone(),
            Source::Allocated => allocated(),
            Source::Actuated => container.actuated.clone().unwrap_or_else(allocated),
        };
        fill(&mut list, defaults);
        list
    }

    fn finish(&self, mut sum: ResourceList) -> ResourceList {
        if !self.pod_level.is_empty() {
            for (name, quantity) in self.pod_level_effective().iter().filter(|(name, _)| is_pod_level(name)) {
                sum.set(name, quantity);
            }
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
fn fill(list: &mut ResourceList, defaults: &[DefaultRequest]) {
    for (name, default) in defaults {
        if list.get(name).is_none() {
            list.set(name, *default);
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
    fn with_pod_level_requests_only_what_nobody_requests_gets_a_default() {
        let one = |name: &str, milli| [(name.into(), Quantity::from_milli(milli))].into_iter().collect::<ResourceList>();
        let container = |spec| ContainerRequests { spec, ..ContainerRequests::default() };
        let nothing = ResourceList::default();
        for (pod_level, first, want_cpu, want_memory) in [
            // Nobody requests memory: each of the two containers gets the default. Cpu is as the pod says.
            (one("cpu", 1000), one("cpu", 300), 1000, DEFAULT_MEMORY.milli() * 2),
            // One container requests memory: that is the pod's, and the other gets none.
            (one("cpu", 1000), one("memory", 5000), 1000, 5000),
            (one("memory", 7000), nothing.clone(), DEFAULT_CPU.milli() * 2, 7000),
        ] {
            let containers = vec![container(first), container(nothing.clone())];
            let nonzero = PodRequests { containers, pod_level, ..PodRequests::default() }.sums().nonzero;
            let memory = nonzero.get("memory").unwrap_or_default().milli();
            assert_eq!((milli(&nonzero), memory), (want_cpu, want_memory));
        }
    }

    #[test]
    fn what_the_kubelet_says_of_the_whole_pod_replaces_what_it_says_of_containers() {
        let list = |milli| [("cpu".into(), Quantity::from_milli(milli))].into_iter().collect::<ResourceList>();
        let nothing = ResourceList::default();
        for (allocated, actuated, infeasible, want) in [
            (list(300), list(200), false, 500),
            (list(300), list(700), false, 700),
            (list(300), list(200), true, 300),
            // One of them alone says nothing.
            (nothing.clone(), list(900), true, 800),
            (nothing.clone(), nothing.clone(), false, 800),
        ] {
            let container = ContainerRequests { allocated: Some(list(800)), ..cpu(500) };
            let pod_level_status = Some((allocated, actuated));
            let pod =
                PodRequests { containers: vec![container], pod_level_status, resize_infeasible: infeasible, ..PodRequests::default() };
            assert_eq!(milli(&pod.sums().effective), want);
        }
    }

    #[test]
    fn a_resize_that_cannot_happen_counts_what_is_reported_and_nothing_else() {
        let pod = PodRequests { containers: vec![cpu(500)], resize_infeasible: true, ..PodRequests::default() };
        assert_eq!(milli(&pod.sums().effective), 0);
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

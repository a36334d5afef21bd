package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
)

// What the real plugins take for the decisions that `cargo bench --bench placement_throughput -- 'spread|affinity|preemption'` measures of Isobar: the same nodes and
// pods (benches/world.rs), all nodes filtered and scored, one thread, nothing of the scheduler around them: no queue, no update of a snapshot, no binding.

const (
	benchNodes   = 5000
	benchPods    = 10000
	benchMembers = 500 // half of those that the other bench places, so that counts are as there in the middle of a step
	benchFor     = 5 * time.Second
)

type benchKind struct {
	name string
	// dress gives a member its wishes.
	dress func(*v1.Pod)
	// on says where the member of a number stands.
	on func(number int) int
}

var benchKinds = []benchKind{
	{"nothing", func(*v1.Pod) {}, evenly},
	{"hard_over_3_zones", spreads(v1.DoNotSchedule, v1.LabelTopologyZone), evenly},
	{"soft_over_zones_and_hosts", spreads(v1.ScheduleAnyway, v1.LabelTopologyZone, v1.LabelHostname), evenly},
	{"required_in_zone", func(pod *v1.Pod) {
		pod.Spec.Affinity = &v1.Affinity{PodAffinity: &v1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []v1.PodAffinityTerm{web(v1.LabelTopologyZone)}}}
	}, func(number int) int { return 3 * number }},
	{"anti_on_host", func(pod *v1.Pod) {
		pod.Spec.Affinity = &v1.Affinity{PodAntiAffinity: &v1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []v1.PodAffinityTerm{web(v1.LabelHostname)}}}
	}, evenly},
}

func evenly(number int) int { return number }

func webSelector() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
}

func web(key string) v1.PodAffinityTerm {
	return v1.PodAffinityTerm{LabelSelector: webSelector(), TopologyKey: key}
}

func spreads(when v1.UnsatisfiableConstraintAction, keys ...string) func(*v1.Pod) {
	return func(pod *v1.Pod) {
		for _, key := range keys {
			pod.Spec.TopologySpreadConstraints = append(pod.Spec.TopologySpreadConstraints, v1.TopologySpreadConstraint{
				MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: when, LabelSelector: webSelector(),
			})
		}
	}
}

// benchCase is a decision to take again and again in a world that stays as it is.
type benchCase struct {
	name   string
	world  *world
	decide func() error
}

// benchAll writes one line a kind. Time is that of the processor, which others on the machine do not lengthen.
func benchAll(out io.Writer) error {
	for _, kind := range benchKinds {
		s, w, err := benchStage(kind)
		if err != nil {
			return err
		}
		if err := (benchCase{kind.name, w, func() error { return s.decideOnly(w.asked) }}).measure(out); err != nil {
			return err
		}
	}
	cases, err := benchPreemption()
	if err != nil {
		return err
	}
	for _, each := range cases {
		if err := each.measure(out); err != nil {
			return err
		}
	}
	return nil
}

func (c benchCase) measure(out io.Writer) error {
	// What making the world left behind is not to be collected on the account of decisions.
	runtime.GC()
	decisions, begin, cpuBefore := 0, time.Now(), cpuMicros()
	for time.Since(begin) < benchFor {
		if err := c.decide(); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		decisions++
	}
	micros := float64(cpuMicros()-cpuBefore) / float64(decisions)
	_, err := fmt.Fprintf(out, "%-26s %8.0f us a decision, %5.0f/s, %d nodes, %d pods\n", c.name, micros, 1e6/micros, len(c.world.nodes), len(c.world.placed))
	return err
}

// cpuMicros is what the whole process has used, the collector of garbage included.
func cpuMicros() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return (usage.Utime.Sec+usage.Stime.Sec)*1e6 + int64(usage.Utime.Usec+usage.Stime.Usec)
}

func benchStage(kind benchKind) (*stage, *world, error) {
	w := &world{byKind: map[string][]any{}}
	for number := range benchNodes {
		node := benchNode(number)
		w.nodes = append(w.nodes, node)
		w.byKind["Node"] = append(w.byKind["Node"], node)
	}
	for number := range benchPods {
		pod := benchPod(number, number%10, fmt.Sprintf("app-%d", number%10))
		pod.Spec.NodeName = w.nodes[number%benchNodes].Name
		w.placed = append(w.placed, pod)
	}
	for number := range benchMembers {
		pod := benchPod(benchPods+number, 0, "web")
		kind.dress(pod)
		pod.Spec.NodeName = w.nodes[kind.on(number)].Name
		w.placed = append(w.placed, pod)
	}
	w.asked = benchPod(benchPods+benchMembers, 0, "web")
	kind.dress(w.asked)
	w.byKind["Namespace"] = []any{&v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.asked.Namespace}}}
	s, err := newTheatre().stage(nil, v1.DefaultSchedulerName)
	if err != nil {
		return nil, nil, err
	}
	return s, w, s.play(w)
}

func benchNode(number int) *v1.Node {
	cores := []int64{16, 32, 64, 96}[number%4]
	name := fmt.Sprintf("node-%05d", number)
	arch := "amd64"
	if number%3 == 0 {
		arch = "arm64"
	}
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{
		v1.LabelHostname: name, v1.LabelArchStable: arch, v1.LabelOSStable: "linux",
		v1.LabelTopologyZone: fmt.Sprintf("zone-%d", number%3), "node.isobar.dev/size": fmt.Sprint(cores),
	}}}
	node.Status.Allocatable = v1.ResourceList{
		v1.ResourceCPU: *resource.NewQuantity(cores, resource.DecimalSI), v1.ResourceMemory: *resource.NewQuantity((cores*4)<<30, resource.BinarySI),
		v1.ResourceEphemeralStorage: *resource.NewQuantity(500<<30, resource.BinarySI), v1.ResourcePods: *resource.NewQuantity(250, resource.DecimalSI),
	}
	if number%10 == 7 {
		node.Status.Allocatable["nvidia.com/gpu"] = *resource.NewQuantity(8, resource.DecimalSI)
		node.Spec.Taints = []v1.Taint{{Key: "nvidia.com/gpu", Effect: v1.TaintEffectNoSchedule}}
	}
	return node
}

func benchPod(number, template int, app string) *v1.Pod {
	name := fmt.Sprintf("pod-%d", number)
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), Labels: map[string]string{"app": app}}}
	pod.Spec.Containers = []v1.Container{{Name: "main", Image: "registry.example/forecast:1", Resources: v1.ResourceRequirements{Requests: v1.ResourceList{
		v1.ResourceCPU:    *resource.NewMilliQuantity(int64(10+template), resource.DecimalSI),
		v1.ResourceMemory: *resource.NewQuantity(int64(16<<20+template<<10), resource.BinarySI),
	}}}}
	pod.Spec.Tolerations = []v1.Toleration{{Key: v1.TaintNodeNotReady, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute}}
	return pod
}

// decideOnly is the scheduler's own cycle over all nodes, with nothing kept of it but that it found a node.
func (s *stage) decideOnly(pod *v1.Pod) error {
	ctx, state := context.Background(), framework.NewCycleState()
	feasible := make([]fwk.NodeInfo, 0, benchNodes)
	err := s.filterAll(ctx, state, pod, func(node fwk.NodeInfo, status *fwk.Status) {
		if status.IsSuccess() {
			feasible = append(feasible, node)
		}
	})
	if err != nil {
		return err
	}
	if len(feasible) == 0 {
		return errors.New("no node is feasible")
	}
	if status := s.framework.RunPreScorePlugins(ctx, state, pod, feasible); !status.IsSuccess() {
		return status.AsError()
	}
	if _, status := s.framework.RunScorePlugins(ctx, state, pod, feasible); !status.IsSuccess() {
		return status.AsError()
	}
	return nil
}

// filterAll asks the filters about every node, nominated pods counted.
func (s *stage) filterAll(ctx context.Context, state fwk.CycleState, pod *v1.Pod, each func(fwk.NodeInfo, *fwk.Status)) error {
	only, status, _ := s.framework.RunPreFilterPlugins(ctx, state, pod)
	if !status.IsSuccess() || !only.AllNodes() {
		return fmt.Errorf("PreFilter: %v", status)
	}
	nodes, err := s.lister.NodeInfos().List()
	if err != nil {
		return err
	}
	for _, node := range nodes {
		each(node, s.framework.RunFilterPluginsWithNominatedPods(ctx, state, pod, node))
	}
	return nil
}

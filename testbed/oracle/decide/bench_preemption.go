package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
)

// What the real plugins take to find victims for an important pod among full nodes, as `cargo bench --bench placement_throughput -- preemption` measures it of
// Isobar (benches/world.rs): ten pods of three priorities on each node, and half of the important pods that the other bench places hold a node already.

const (
	benchSeats     = 10
	benchNominated = 500
)

// The real plugin tries removals on a tenth of the nodes, from a random one on, unless it is told otherwise; Isobar on all that can be helped.
const benchAllCandidates = `{"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration", "profiles": [{"schedulerName":
	"default-scheduler", "pluginConfig": [{"name": "DefaultPreemption", "args": {"minCandidateNodesPercentage": 100}}]}]}`

func benchPreemption() ([]benchCase, error) {
	w := benchFull()
	var cases []benchCase
	for _, kind := range []struct{ name, config string }{{"preempt_all_nodes", benchAllCandidates}, {"preempt_tenth_of_nodes", "null"}} {
		s, err := newTheatre().stage([]byte(kind.config), v1.DefaultSchedulerName)
		if err != nil {
			return nil, err
		}
		if err := s.play(w); err != nil {
			return nil, err
		}
		cases = append(cases, benchCase{kind.name, w, func() error { return s.preemptOnly(w.asked) }})
	}
	return cases, nil
}

func benchFull() *world {
	w := &world{byKind: map[string][]any{}}
	for number := range benchNodes {
		node := benchNode(number)
		node.Spec.Taints = nil
		node.Status.Allocatable = v1.ResourceList{
			v1.ResourceCPU: *resource.NewMilliQuantity(10_010, resource.DecimalSI), v1.ResourceMemory: *resource.NewQuantity(64<<30, resource.BinarySI),
			v1.ResourcePods: *resource.NewQuantity(110, resource.DecimalSI),
		}
		w.nodes = append(w.nodes, node)
		w.byKind["Node"] = append(w.byKind["Node"], node)
		for seat := range benchSeats {
			pod := benchSized(benchNodes*100+number*benchSeats+seat, seat%3, int32(seat%3))
			pod.Spec.NodeName = node.Name
			started := metav1.NewTime(time.Unix(int64((number*7+seat)%1000), 0))
			pod.Status.StartTime = &started
			w.placed = append(w.placed, pod)
		}
	}
	for number := range benchNominated {
		pod := benchSized(number, 0, 1000)
		pod.Status.NominatedNodeName = w.nodes[number].Name
		w.nominated = append(w.nominated, pod)
	}
	w.asked = benchSized(benchNominated, 0, 1000)
	for _, pod := range append(append([]*v1.Pod{w.asked}, w.nominated...), w.placed...) {
		w.byKind["Pod"] = append(w.byKind["Pod"], pod)
	}
	w.byKind["Namespace"] = []any{&v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.asked.Namespace}}}
	return w
}

// benchSized is a pod of about one core.
func benchSized(number, size int, priority int32) *v1.Pod {
	pod := benchPod(number, 0, "sized")
	pod.Labels = nil
	pod.Spec.Priority = &priority
	pod.Spec.Containers[0].Resources.Requests = v1.ResourceList{
		v1.ResourceCPU:    *resource.NewMilliQuantity(int64(1000+size), resource.DecimalSI),
		v1.ResourceMemory: *resource.NewQuantity(int64(1<<30+size<<10), resource.BinarySI),
	}
	return pod
}

// preemptOnly is the scheduler's own cycle for a pod that no node takes, victims and their deletion at an API server that answers at once included.
func (s *stage) preemptOnly(pod *v1.Pod) error {
	ctx, state := context.Background(), framework.NewCycleState()
	diagnosis, isFull := framework.Diagnosis{NodeToStatus: framework.NewDefaultNodeToStatus()}, true
	err := s.filterAll(ctx, state, pod, func(node fwk.NodeInfo, status *fwk.Status) {
		isFull = isFull && !status.IsSuccess()
		diagnosis.NodeToStatus.Set(node.Node().Name, status)
		diagnosis.AddPluginStatus(status)
	})
	if err != nil {
		return err
	}
	if !isFull {
		return errors.New("a node is not full")
	}
	s.deletions.clear()
	made := s.postFilter(ctx, state, pod, &diagnosis)
	if made == nil || made.Nominated == "" || len(made.Victims) != 1 {
		return fmt.Errorf("not one victim on one node: %+v", made)
	}
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/events"
	"k8s.io/dynamic-resource-allocation/resourceslice/tracker"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/features"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"
	internalcache "k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/util/assumecache"
)

// Frameworks kept. Generated cases use some hundred configurations again and again; a framework costs far more than a case.
const stagesKeptMax = 512

// theatre has a stage for each configuration that was seen.
type theatre struct {
	stages map[string]*stage
}

// stage is a framework as the real scheduler builds it from one profile, around objects that are exchanged for each case.
type stage struct {
	framework framework.Framework
	lister    *lister
	informers map[string]*stillInformer
	nominated *nominations
	deletions *deletions
	preempts  *preemptions
	close     context.CancelFunc
}

func newTheatre() *theatre {
	return &theatre{stages: map[string]*stage{}}
}

// stage for a configuration and the profile of a scheduler name.
func (t *theatre) stage(text json.RawMessage, schedulerName string) (*stage, error) {
	key := schedulerName + "\x00" + string(text)
	if found := t.stages[key]; found != nil {
		return found, nil
	}
	if len(t.stages) >= stagesKeptMax {
		for _, old := range t.stages {
			old.close()
		}
		clear(t.stages)
	}
	profile, err := profileOf(text, schedulerName)
	if err != nil {
		return nil, err
	}
	built, err := newStage(profile)
	if err != nil {
		return nil, err
	}
	t.stages[key] = built
	return built, nil
}

// profileOf reads a KubeSchedulerConfiguration, as text or as an object, or takes the default one.
func profileOf(text json.RawMessage, schedulerName string) (*config.KubeSchedulerProfile, error) {
	var configuration *config.KubeSchedulerConfiguration
	if len(text) == 0 || string(text) == "null" {
		made, err := latest.Default()
		if err != nil {
			return nil, err
		}
		configuration = made
	} else {
		content := []byte(text)
		var yaml string
		if json.Unmarshal(text, &yaml) == nil {
			content = []byte(yaml)
		}
		decoded, _, err := scheme.Codecs.UniversalDecoder().Decode(content, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
		made, is := decoded.(*config.KubeSchedulerConfiguration)
		if !is {
			return nil, fmt.Errorf("config: a %T is no KubeSchedulerConfiguration", decoded)
		}
		configuration = made
	}
	for at := range configuration.Profiles {
		if configuration.Profiles[at].SchedulerName == schedulerName {
			return &configuration.Profiles[at], nil
		}
	}
	return nil, fmt.Errorf("no profile has the scheduler name %q", schedulerName)
}

func newStage(profile *config.KubeSchedulerProfile) (*stage, error) {
	ctx, cancel := context.WithCancel(context.Background())
	client := fake.NewClientset()
	s := &stage{lister: &lister{internalcache.NewEmptySnapshot()}, nominated: &nominations{}, deletions: &deletions{}, preempts: &preemptions{}, close: cancel}
	// Nothing is kept at the client: writes are noted where they matter, and succeed.
	client.PrependReactor("*", "*", s.deletions.react)
	factory, still := stillFactory(client)
	s.informers = still
	slices := tracker.Options{
		EnableDeviceTaintRules:   utilfeature.DefaultFeatureGate.Enabled(features.DRADeviceTaintRules),
		EnableConsumableCapacity: utilfeature.DefaultFeatureGate.Enabled(features.DRAConsumableCapacity),
		SliceInformer:            factory.Resource().V1().ResourceSlices(),
		TaintInformer:            factory.Resource().V1().DeviceTaintRules(),
	}
	sliceTracker, err := tracker.StartTracker(ctx, slices)
	if err != nil {
		cancel()
		return nil, err
	}
	claims := assumecache.NewAssumeCache(klog.FromContext(ctx), factory.Resource().V1().ResourceClaims().Informer(), "ResourceClaim", "", nil)
	// The registry takes every feature gate from utilfeature.DefaultFeatureGate, so all are as this release has them.
	registry := plugins.NewInTreeRegistry()
	s.preempts.capture(registry)
	s.framework, err = frameworkruntime.NewFramework(ctx, registry, profile,
		frameworkruntime.WithComponentConfigVersion("kubescheduler.config.k8s.io/v1"),
		frameworkruntime.WithClientSet(client),
		frameworkruntime.WithInformerFactory(factory),
		frameworkruntime.WithSharedDRAManager(dynamicresources.NewDRAManager(ctx, claims, sliceTracker, factory)),
		frameworkruntime.WithSharedCSIManager(nodevolumelimits.NewCSIManager(factory.Storage().V1().CSINodes().Lister())),
		frameworkruntime.WithSnapshotSharedLister(s.lister),
		frameworkruntime.WithMutableSnapshotLister(s.lister),
		frameworkruntime.WithPodNominator(s.nominated),
		frameworkruntime.WithPodActivator(idleActivator{}),
		frameworkruntime.WithEventRecorder(&events.FakeRecorder{}),
		frameworkruntime.WithWaitingPods(frameworkruntime.NewWaitingPodsMap()),
		frameworkruntime.WithPodsInPreBind(frameworkruntime.NewPodsInPreBindMap()),
		frameworkruntime.WithParallelism(1),
		frameworkruntime.WithLogger(klog.FromContext(ctx)))
	if err != nil {
		cancel()
		return nil, err
	}
	return s, nil
}

// play exchanges the objects. Nodes are in the order of their names: the snapshot's own order is that of a map.
func (s *stage) play(w *world) error {
	for kind, informer := range s.informers {
		if err := informer.fill(w.byKind[kind]); err != nil {
			return err
		}
	}
	s.lister.Snapshot = internalcache.NewSnapshot(w.placed, w.nodes)
	listed := []func() ([]fwk.NodeInfo, error){
		s.lister.NodeInfos().List, s.lister.NodeInfos().HavePodsWithAffinityList, s.lister.NodeInfos().HavePodsWithRequiredAntiAffinityList,
	}
	for _, list := range listed {
		nodes, err := list()
		if err != nil {
			return err
		}
		sort.Slice(nodes, func(a, b int) bool { return nodes[a].Node().Name < nodes[b].Node().Name })
	}
	s.deletions.clear()
	return s.nominated.set(w.nominated)
}

// lister lets plugins, which keep what they were built with, see the snapshot of the present case.
type lister struct {
	*internalcache.Snapshot
}

type idleActivator struct{}

func (idleActivator) Activate(klog.Logger, map[string]*v1.Pod) {}

// nominations are the pods that hold a node by `status.nominatedNodeName`.
type nominations struct {
	byNode map[string][]fwk.PodInfo
}

func (n *nominations) set(pods []*v1.Pod) error {
	n.byNode = map[string][]fwk.PodInfo{}
	for _, pod := range pods {
		info, err := framework.NewPodInfo(pod)
		if err != nil {
			return err
		}
		n.byNode[pod.Status.NominatedNodeName] = append(n.byNode[pod.Status.NominatedNodeName], info)
	}
	return nil
}

func (n *nominations) NominatedPodsForNode(node string) []fwk.PodInfo {
	found := make([]fwk.PodInfo, len(n.byNode[node]))
	for at, pod := range n.byNode[node] {
		found[at] = pod
	}
	return found
}

func (*nominations) AddNominatedPod(klog.Logger, fwk.PodInfo, *fwk.NominatingInfo) {}
func (*nominations) DeleteNominatedPodIfExists(*v1.Pod)                            {}
func (*nominations) UpdateNominatedPod(klog.Logger, *v1.Pod, fwk.PodInfo)          {}

// deletions notes which pods a preemption deletes at the API server.
type deletions struct {
	mutex sync.Mutex
	pods  []string
}

func (d *deletions) react(action clienttesting.Action) (bool, runtime.Object, error) {
	if deletion, is := action.(clienttesting.DeleteAction); is && action.GetResource().Resource == "pods" {
		d.mutex.Lock()
		defer d.mutex.Unlock()
		d.pods = append(d.pods, deletion.GetNamespace()+"/"+deletion.GetName())
	}
	return true, &v1.Pod{}, nil
}

func (d *deletions) clear() {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.pods = nil
}

func (d *deletions) sorted() []string {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	sort.Strings(d.pods)
	return append([]string{}, d.pods...)
}

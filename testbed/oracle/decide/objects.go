package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// caseLine is one question: which node would this pod get among these objects.
type caseLine struct {
	ID      json.RawMessage   `json:"id"`
	Config  json.RawMessage   `json:"config,omitempty"`
	Objects []json.RawMessage `json:"objects"`
	Pod     string            `json:"pod"`
}

// prototypes are the kinds that the default plugins read.
var prototypes = map[string]runtime.Object{
	"Node":                  &v1.Node{},
	"Pod":                   &v1.Pod{},
	"Namespace":             &v1.Namespace{},
	"Service":               &v1.Service{},
	"ReplicationController": &v1.ReplicationController{},
	"ReplicaSet":            &appsv1.ReplicaSet{},
	"StatefulSet":           &appsv1.StatefulSet{},
	"PersistentVolume":      &v1.PersistentVolume{},
	"PersistentVolumeClaim": &v1.PersistentVolumeClaim{},
	"StorageClass":          &storagev1.StorageClass{},
	"CSINode":               &storagev1.CSINode{},
	"CSIDriver":             &storagev1.CSIDriver{},
	"CSIStorageCapacity":    &storagev1.CSIStorageCapacity{},
	"VolumeAttachment":      &storagev1.VolumeAttachment{},
	"PodDisruptionBudget":   &policyv1.PodDisruptionBudget{},
}

// world is a case as the scheduler finds it.
type world struct {
	byKind map[string][]any
	nodes  []*v1.Node
	// placed pods count on their nodes; a pod of a node that is not there does not, as in the scheduler's own snapshot.
	placed []*v1.Pod
	// nominated pods hold a node that they do not have yet.
	nominated []*v1.Pod
	asked     *v1.Pod
}

func readWorld(asked *caseLine) (*world, error) {
	w := &world{byKind: map[string][]any{}}
	for at, text := range asked.Objects {
		var kind metav1.TypeMeta
		if err := json.Unmarshal(text, &kind); err != nil {
			return nil, fmt.Errorf("objects[%d]: %w", at, err)
		}
		prototype, known := prototypes[kind.Kind]
		if !known {
			return nil, fmt.Errorf("objects[%d]: kind %q is none that a plugin reads", at, kind.Kind)
		}
		object := reflect.New(reflect.TypeOf(prototype).Elem()).Interface()
		if err := json.Unmarshal(text, object); err != nil {
			return nil, fmt.Errorf("objects[%d], a %s: %w", at, kind.Kind, err)
		}
		w.add(kind.Kind, object.(metav1.Object))
	}
	return w, w.castRoles(asked.Pod)
}

// add completes what an API server would: a namespace, and a UID, which plugins use as key.
func (w *world) add(kind string, object metav1.Object) {
	switch kind {
	case "Node", "Namespace", "PersistentVolume", "StorageClass", "CSINode", "CSIDriver", "VolumeAttachment":
	default:
		if object.GetNamespace() == "" {
			object.SetNamespace("default")
		}
	}
	if object.GetUID() == "" {
		object.SetUID(types.UID(object.GetNamespace() + "/" + object.GetName()))
	}
	w.byKind[kind] = append(w.byKind[kind], object)
}

func (w *world) castRoles(wanted string) error {
	namespace, name, found := strings.Cut(wanted, "/")
	if !found {
		namespace, name = "default", wanted
	}
	present := map[string]bool{}
	for _, object := range w.byKind["Node"] {
		node := object.(*v1.Node)
		w.nodes = append(w.nodes, node)
		present[node.Name] = true
	}
	for _, object := range w.byKind["Pod"] {
		pod := object.(*v1.Pod)
		// The scheduler's informer never sees pods that have ended.
		ended := pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
		switch {
		case pod.Namespace == namespace && pod.Name == name:
			w.asked = pod
		case !ended && pod.Spec.NodeName != "" && present[pod.Spec.NodeName]:
			w.placed = append(w.placed, pod)
		case !ended && pod.Spec.NodeName == "" && pod.Status.NominatedNodeName != "":
			w.nominated = append(w.nominated, pod)
		}
	}
	if w.asked == nil {
		return fmt.Errorf("pod %s/%s is not among the objects", namespace, name)
	}
	return nil
}

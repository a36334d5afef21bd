package main

import (
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// stillInformer is an informer whose content is put there by hand: it never runs, so that a case costs no goroutine and no wait, and what is there is
// there at once. Listers read its store; handlers are told in the goroutine that fills it.
type stillInformer struct {
	cache.SharedIndexInformer
	handlers []cache.ResourceEventHandler
}

func newStillInformer(prototype runtime.Object) *stillInformer {
	indexers := cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}
	return &stillInformer{SharedIndexInformer: cache.NewSharedIndexInformer(&cache.ListWatch{}, prototype, 0, indexers)}
}

func (s *stillInformer) AddEventHandler(handler cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	s.handlers = append(s.handlers, handler)
	return s.SharedIndexInformer.AddEventHandler(handler)
}

func (s *stillInformer) AddEventHandlerWithResyncPeriod(handler cache.ResourceEventHandler, _ time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	return s.AddEventHandler(handler)
}

func (s *stillInformer) AddEventHandlerWithOptions(handler cache.ResourceEventHandler, _ cache.HandlerOptions) (cache.ResourceEventHandlerRegistration, error) {
	return s.AddEventHandler(handler)
}

func (s *stillInformer) HasSynced() bool { return true }

// fill makes these the whole content.
func (s *stillInformer) fill(objects []any) error {
	before := s.GetIndexer().List()
	if len(before) == 0 && len(objects) == 0 {
		return nil
	}
	if err := s.GetIndexer().Replace(objects, ""); err != nil {
		return err
	}
	for _, handler := range s.handlers {
		for _, object := range before {
			handler.OnDelete(object)
		}
		for _, object := range objects {
			handler.OnAdd(object, true)
		}
	}
	return nil
}

// stillFactory makes a factory that has still informers for every kind of `prototypes`, by kind.
func stillFactory(client kubernetes.Interface) (informers.SharedInformerFactory, map[string]*stillInformer) {
	factory := informers.NewSharedInformerFactory(client, 0)
	still := map[string]*stillInformer{}
	for kind, prototype := range prototypes {
		informer := newStillInformer(prototype)
		still[kind] = informer
		factory.InformerFor(prototype, func(kubernetes.Interface, time.Duration) cache.SharedIndexInformer { return informer })
	}
	return factory, still
}

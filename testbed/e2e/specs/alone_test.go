// What comes in: a cluster on which a spec has just ended. What goes out: the same without anything of that spec.
package specs

import (
	"context"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/test/e2e/framework"
)

// The specs count on being alone, and wait for namespaces of earlier ones by a prefix that no namespace has any more. Their pods hold room until they are gone,
// so that a pod of low priority may be placed before the next one of middle priority and evicted for it, by any scheduler.
func waitForEarlierSpecsToGo() {
	ginkgo.BeforeEach(func(ctx context.Context) {
		client, err := framework.LoadClientset()
		framework.ExpectNoError(err)
		gomega.Eventually(ctx, func(ctx context.Context) ([]string, error) {
			namespaces, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, err
			}
			leaving := []string{}
			for _, namespace := range namespaces.Items {
				if namespace.DeletionTimestamp != nil {
					leaving = append(leaving, namespace.Name)
				}
			}
			return leaving, nil
		}).WithTimeout(10*time.Minute).WithPolling(500*time.Millisecond).Should(gomega.BeEmpty(), "namespaces of earlier specs do not go")
	})
}

// What comes in: the flags of upstream's e2e.test. What goes out: a program that holds the [sig-scheduling] specs, and nothing else, against a cluster.
//
// Upstream's own program takes in every folder of test/e2e and thereby every cloud's client; this takes in the one folder that asks the scheduler.
package specs

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"k8s.io/kubernetes/test/e2e"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	manifests "k8s.io/kubernetes/test/e2e/testing-manifests"

	// What may be said about a spec: conformance, features, gates.
	_ "k8s.io/kubernetes/test/e2e/feature"
	// The specs.
	_ "k8s.io/kubernetes/test/e2e/scheduling"
	// What the framework does before and after each.
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	_ "k8s.io/kubernetes/test/utils/ktesting/format"
)

func TestMain(m *testing.M) {
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.StringVar(&expectedFile, "expected", "", "file with the names of the specs that have to pass, one a line")
	flag.IntVar(&tableFd, "table", 1, "file descriptor that gets what became of each spec")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "unknown arguments: %q\n", flag.Args())
		os.Exit(1)
	}
	testfiles.AddFileSource(manifests.GetE2ETestingManifestsFS())
	framework.AfterReadingAllFlags(&framework.TestContext)
	waitForEarlierSpecsToGo()
	tellWhatBecomesOfSpecs()
	os.Exit(m.Run())
}

func TestE2E(t *testing.T) {
	e2e.RunE2ETests(t)
}

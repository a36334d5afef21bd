// What comes in: the list of specs that are expected and what became of each. What goes out: a line for each spec as it ends, and a verdict.
//
// Upstream's own report cannot say that a spec is gone: one that was renamed is not run, and nobody misses it.
package specs

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
)

var (
	expectedFile string
	tableFd      int
	table        *os.File
)

// To be called when the framework has read its flags: for that it goes through all specs without running any, and would have each reported as passed.
func tellWhatBecomesOfSpecs() {
	ginkgo.ReportAfterEach(func(spec ginkgo.SpecReport) {
		if !isFiltered(spec) {
			tell(line(spec))
		}
	})
	ginkgo.ReportAfterSuite("verdict", verdict)
}

func verdict(report ginkgo.Report) {
	expected, err := readExpected()
	if err != nil {
		ginkgo.Fail(err.Error())
	}
	// What is listed and not in focus is left out; what is left out for any other reason is missed.
	isFocused := len(report.SuiteConfig.FocusStrings) > 0
	known := map[string]bool{}
	var passed, others int
	for _, spec := range report.SpecReports {
		if spec.LeafNodeType != types.NodeTypeIt {
			if spec.Failed() {
				tell(line(spec))
				others++
			}
			continue
		}
		known[spec.FullText()] = true
		switch {
		case isFiltered(spec):
			if !isFocused && slices.Contains(expected, spec.FullText()) {
				tell("not run            " + spec.FullText())
				others++
			}
		case !slices.Contains(expected, spec.FullText()):
			tell("unlisted           " + spec.FullText())
			others++
		case spec.State == types.SpecStatePassed:
			passed++
		default:
			others++
		}
	}
	for _, name := range expected {
		if !known[name] {
			tell("vanished           " + name)
			others++
		}
	}
	tell(fmt.Sprintf("%d passed, %d did not; %d are listed", passed, others, len(expected)))
	if others > 0 || passed == 0 {
		ginkgo.Fail("not every spec passed")
	}
}

// Not asked for, by focus or label. One that skips itself while it runs says why.
func isFiltered(spec ginkgo.SpecReport) bool {
	return spec.State.Is(types.SpecStateSkipped|types.SpecStatePending) && spec.Failure.Message == ""
}

func line(spec ginkgo.SpecReport) string {
	text := fmt.Sprintf("%-10s %5.1f s  %s", spec.State, spec.RunTime.Seconds(), spec.FullText())
	if spec.Failure.Message != "" {
		why, _, _ := strings.Cut(strings.TrimSpace(spec.Failure.Message), "\n")
		text += fmt.Sprintf("\n                     %s", why)
	}
	return text
}

func readExpected() ([]string, error) {
	text, err := os.ReadFile(expectedFile)
	if err != nil {
		return nil, fmt.Errorf("--expected: %w", err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n"), nil
}

func tell(text string) {
	// Kept for good: a file that nobody holds is closed.
	if table == nil {
		table = os.NewFile(uintptr(tableFd), "table")
	}
	fmt.Fprintln(table, text)
}

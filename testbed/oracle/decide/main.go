// Decides cases with the plugins of the real kube-scheduler. In: one case a line, {"id", "config"?, "objects", "pod"}, as `isobar explain --batch` reads
// them. Out: one answer a line, in the order of the cases: who refused where and why, raw, normalised and weighted scores, totals, the best nodes, and
// what preemption would do. A case that cannot be answered has "broken" with the reason, and the rest goes on.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"

	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
)

// A case of 60 nodes and their pods has some 100 KB; beyond this the input is no case.
const lineBytesMax = 64 << 20

func main() {
	workers := flag.Int("workers", runtime.GOMAXPROCS(0), "cases decided at once; answers keep the order of the cases")
	bench := flag.Bool("bench", false, "measure the plugins instead: see bench.go")
	flag.Parse()
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	metrics.Register()
	work := func() error { return answerAll(os.Stdin, os.Stdout, max(*workers, 1)) }
	if *bench {
		work = func() error { return benchAll(os.Stdout) }
	}
	if err := work(); err != nil {
		fmt.Fprintf(os.Stderr, "oracle: %v\n", err)
		os.Exit(1)
	}
}

type question struct {
	line   []byte
	answer chan []byte
}

// answerAll hands the lines to workers and writes their answers in order. Each worker has its own frameworks: nothing is shared.
func answerAll(in io.Reader, out io.Writer, workers int) error {
	questions := make(chan question, workers)
	inOrder := make(chan chan []byte, 4*workers)
	for range workers {
		go func() {
			theatre := newTheatre()
			for asked := range questions {
				asked.answer <- theatre.answerLine(asked.line)
			}
		}()
	}
	failed := make(chan error, 1)
	go func() {
		defer close(inOrder)
		defer close(questions)
		lines := bufio.NewScanner(in)
		lines.Buffer(make([]byte, 1<<20), lineBytesMax)
		for lines.Scan() {
			asked := question{line: append([]byte(nil), lines.Bytes()...), answer: make(chan []byte, 1)}
			inOrder <- asked.answer
			questions <- asked
		}
		failed <- lines.Err()
	}()
	writer := bufio.NewWriterSize(out, 1<<16)
	for answer := range inOrder {
		if _, err := writer.Write(append(<-answer, '\n')); err != nil {
			return err
		}
		// Who asks one thing at a time must not wait for a full buffer.
		if len(inOrder) == 0 {
			if err := writer.Flush(); err != nil {
				return err
			}
		}
	}
	if err := writer.Flush(); err != nil {
		return err
	}
	return <-failed
}

// answerLine never fails: what is wrong with a case is its answer.
func (t *theatre) answerLine(line []byte) (written []byte) {
	var asked caseLine
	broken := func(why any) []byte {
		text, _ := json.Marshal(map[string]any{"id": asked.ID, "broken": fmt.Sprint(why)})
		return text
	}
	// A panic of a plugin is a finding about that case, not the end of the run.
	defer func() {
		if why := recover(); why != nil {
			written = broken(fmt.Sprintf("panic: %v", why))
		}
	}()
	if err := json.Unmarshal(line, &asked); err != nil {
		return broken(err)
	}
	answer, err := t.decide(&asked)
	if err != nil {
		return broken(err)
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return broken(err)
	}
	return text
}

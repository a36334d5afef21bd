package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sort"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultpreemption"
	fwkpreemption "k8s.io/kubernetes/pkg/scheduler/framework/preemption"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
)

// answer is everything that the real plugins say about a case. `scores` has [raw, normalised, weighted] for each feasible node, in that list's order.
type answer struct {
	ID json.RawMessage `json:"id"`
	// What ended the attempt as an error.
	Error string `json:"error,omitempty"`
	// The PreEnqueue plugin that holds the pod back.
	Gated      string                `json:"gated,omitempty"`
	PreFilter  *refusal              `json:"prefilter,omitempty"`
	Infeasible map[string]refusal    `json:"infeasible,omitempty"`
	Feasible   []string              `json:"feasible,omitempty"`
	Skipped    []string              `json:"prescore_skipped,omitempty"`
	Scores     map[string][][3]int64 `json:"scores,omitempty"`
	Total      []int64               `json:"total,omitempty"`
	Best       []string              `json:"best,omitempty"`
	// The text of the pod's condition as far as filters make it.
	Message    string      `json:"message,omitempty"`
	Preemption *preemption `json:"preemption,omitempty"`
}

// refusal of a node, or of all nodes. Where PreFilter plugins left a node out, `plugin` has their names, joined by commas.
type refusal struct {
	Plugin  string   `json:"plugin"`
	Code    string   `json:"code"`
	Reasons []string `json:"reasons"`
}

// preemption is what PostFilter plugins say.
type preemption struct {
	Code      string   `json:"code"`
	Message   string   `json:"message,omitempty"`
	Nominated string   `json:"nominated,omitempty"`
	Victims   []string `json:"victims,omitempty"`
	// Nodes that no rule tells from the nominated one: which of them it is upstream leaves to the order of a map.
	EquallyGood []string `json:"equally_good,omitempty"`
}

// refused sorts the reasons: some plugins give theirs in the order of a map.
func refused(plugin string, status *fwk.Status) refusal {
	reasons := append([]string{}, status.Reasons()...)
	sort.Strings(reasons)
	return refusal{Plugin: plugin, Code: status.Code().String(), Reasons: reasons}
}

func (t *theatre) decide(asked *caseLine) (*answer, error) {
	w, err := readWorld(asked)
	if err != nil {
		return nil, err
	}
	name := w.asked.Spec.SchedulerName
	if name == "" {
		name = v1.DefaultSchedulerName
	}
	s, err := t.stage(asked.Config, name)
	if err != nil {
		return nil, err
	}
	if err := s.play(w); err != nil {
		return nil, err
	}
	a := &answer{ID: asked.ID}
	return a, s.attempt(context.Background(), w, a)
}

// attempt takes the steps of the scheduler's own cycle, over all nodes: a sample of them could not be compared.
func (s *stage) attempt(ctx context.Context, w *world, a *answer) error {
	for _, plugin := range s.framework.PreEnqueuePlugins() {
		if !plugin.PreEnqueue(ctx, w.asked).IsSuccess() {
			a.Gated = plugin.Name()
			return nil
		}
	}
	if len(w.nodes) == 0 {
		a.Message = "no nodes available to schedule pods"
		return nil
	}
	state := framework.NewCycleState()
	diagnosis := framework.Diagnosis{NodeToStatus: framework.NewDefaultNodeToStatus()}
	feasible, err := s.filter(ctx, state, w, a, &diagnosis)
	if err != nil {
		a.Error = err.Error()
		return nil
	}
	if len(feasible) == 0 {
		a.Message = (&framework.FitError{Pod: w.asked, NumAllNodes: len(w.nodes), Diagnosis: diagnosis}).Error()
		a.Preemption = s.postFilter(ctx, state, w.asked, &diagnosis)
		if a.Preemption != nil && a.Preemption.Nominated != "" {
			a.Preemption.EquallyGood = s.preempts.equallyGood(ctx, state, w.asked, diagnosis.NodeToStatus, a.Preemption.Nominated)
		}
		return nil
	}
	return s.score(ctx, state, w.asked, feasible, a)
}

func (s *stage) filter(ctx context.Context, state fwk.CycleState, w *world, a *answer, diagnosis *framework.Diagnosis) ([]fwk.NodeInfo, error) {
	only, status, narrowing := s.framework.RunPreFilterPlugins(ctx, state, w.asked)
	blamed := strings.Join(sets.List(narrowing), ",")
	if !status.IsSuccess() {
		if !status.IsRejected() {
			return nil, status.AsError()
		}
		diagnosis.NodeToStatus.SetAbsentNodesStatus(status)
		diagnosis.PreFilterMsg = status.Message()
		who := status.Plugin()
		if who == "" {
			who = blamed
		}
		all := refused(who, status)
		a.PreFilter = &all
		return nil, nil
	}
	if !only.AllNodes() {
		absent := fwk.NewStatus(fwk.UnschedulableAndUnresolvable, fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", sets.List(narrowing)))
		diagnosis.NodeToStatus.SetAbsentNodesStatus(absent)
	}
	nodes, err := s.lister.NodeInfos().List()
	if err != nil {
		return nil, err
	}
	var feasible []fwk.NodeInfo
	a.Infeasible = map[string]refusal{}
	// The node for which the pod was nominated before is tried first, and alone if it will do.
	for _, node := range nodes {
		if node.Node().Name != w.asked.Status.NominatedNodeName {
			continue
		}
		if s.framework.RunFilterPluginsWithNominatedPods(ctx, state, w.asked, node).IsSuccess() {
			a.Feasible = []string{node.Node().Name}
			return []fwk.NodeInfo{node}, nil
		}
	}
	for _, node := range nodes {
		name := node.Node().Name
		if !only.AllNodes() && !only.NodeNames.Has(name) {
			a.Infeasible[name] = refused(blamed, diagnosis.NodeToStatus.AbsentNodesStatus())
			continue
		}
		status := s.framework.RunFilterPluginsWithNominatedPods(ctx, state, w.asked, node)
		switch {
		case status.IsSuccess():
			feasible = append(feasible, node)
			a.Feasible = append(a.Feasible, name)
		case status.IsRejected():
			diagnosis.NodeToStatus.Set(name, status)
			diagnosis.AddPluginStatus(status)
			a.Infeasible[name] = refused(status.Plugin(), status)
		default:
			return nil, status.AsError()
		}
	}
	return feasible, nil
}

func (s *stage) score(ctx context.Context, state fwk.CycleState, pod *v1.Pod, feasible []fwk.NodeInfo, a *answer) error {
	alone := func(why error) error {
		// A node that is the only one is taken without scores, so nothing can go wrong with them.
		if len(feasible) == 1 {
			a.Best = a.Feasible
		} else {
			a.Error = why.Error()
		}
		return nil
	}
	if status := s.framework.RunPreScorePlugins(ctx, state, pod, feasible); !status.IsSuccess() {
		return alone(status.AsError())
	}
	a.Skipped = sets.List(state.GetSkipScorePlugins())
	scored, status := s.framework.RunScorePlugins(ctx, state, pod, feasible)
	if !status.IsSuccess() {
		return alone(status.AsError())
	}
	weights := map[string]int64{}
	for _, plugin := range s.framework.ListPlugins().Score.Enabled {
		weights[plugin.Name] = int64(plugin.Weight)
	}
	a.Scores = map[string][][3]int64{}
	highest := scored[0].TotalScore
	for _, node := range scored {
		for at, raw := range node.RawScores {
			weighted := node.Scores[at].Score
			a.Scores[raw.Name] = append(a.Scores[raw.Name], [3]int64{raw.Score, weighted / max(weights[raw.Name], 1), weighted})
		}
		a.Total = append(a.Total, node.TotalScore)
		highest = max(highest, node.TotalScore)
	}
	for _, node := range scored {
		if node.TotalScore == highest {
			a.Best = append(a.Best, node.Name)
		}
	}
	return nil
}

func (s *stage) postFilter(ctx context.Context, state fwk.CycleState, pod *v1.Pod, diagnosis *framework.Diagnosis) *preemption {
	if !s.framework.HasPostFilterPlugins() {
		return nil
	}
	result, status := s.framework.RunPostFilterPlugins(ctx, state, pod, diagnosis.NodeToStatus)
	s.preempts.wait(pod)
	made := &preemption{Code: status.Code().String(), Message: status.Message(), Victims: s.deletions.sorted()}
	if result != nil && result.NominatingInfo != nil {
		made.Nominated = result.NominatedNodeName
	}
	return made
}

// preemptions knows the plugin that deletes pods in a goroutine of its own.
type preemptions struct {
	plugin *defaultpreemption.DefaultPreemption
}

func (p *preemptions) capture(registry frameworkruntime.Registry) {
	build := registry[defaultpreemption.Name]
	registry[defaultpreemption.Name] = func(ctx context.Context, args kruntime.Object, handle fwk.Handle) (fwk.Plugin, error) {
		built, err := build(ctx, args, handle)
		p.plugin, _ = built.(*defaultpreemption.DefaultPreemption)
		return built, err
	}
}

// Choices between two nodes that nothing tells apart, until one may be sure that the first is always taken: a map of two begins with the second at least once
// in eight times.
const choicesMax = 300

// equallyGood makes the candidates once more, and has each choose against the one that was taken.
func (p *preemptions) equallyGood(ctx context.Context, state fwk.CycleState, pod *v1.Pod, m fwk.NodeToStatusReader, taken string) []string {
	evaluator := p.plugin.Evaluator
	potential, err := m.NodesForStatusCode(evaluator.Handler.MutableSnapshotSharedLister().NodeInfos(), fwk.Unschedulable)
	if err != nil || len(potential) < 2 {
		return nil
	}
	budgets, err := evaluator.PdbLister.List(labels.Everything())
	if err != nil {
		return nil
	}
	candidates, _, err := evaluator.DryRunPreemption(ctx, state, pod, potential, budgets, 0, int32(len(potential)))
	if err != nil {
		return nil
	}
	var best fwkpreemption.Candidate
	for _, candidate := range candidates {
		if candidate.Name() == taken {
			best = candidate
		}
	}
	var equal []string
	for _, candidate := range candidates {
		for try := 0; best != nil && candidate.Name() != taken && try < choicesMax; try++ {
			if evaluator.SelectCandidate(ctx, []fwkpreemption.Candidate{best, candidate}).Name() != taken {
				equal = append(equal, candidate.Name())
				break
			}
		}
	}
	sort.Strings(equal)
	return equal
}

// wait until the victims are deleted; the API server here answers at once.
func (p *preemptions) wait(pod *v1.Pod) {
	for p.plugin != nil && p.plugin.Executor.IsPodRunningPreemption(pod.UID) {
		runtime.Gosched()
	}
}

package controller

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wiber/wiber/controller/plan"
	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
)

// A node is one letter: R ready, n not ready, and S stopped as wanted, s wanted to
// be stopped and still ready.
func TestAClusterIsSummedUp(t *testing.T) {
	for _, tc := range []struct {
		nodes string
		down  string
		want  string
	}{
		{"RRR", "", "3/3 Ready=True QuorumAvailable=True Degraded=False Progressing=False: 3 of 3 nodes are ready"},
		{"RRn", "", "2/3 Ready=False QuorumAvailable=True Degraded=True Progressing=True: 2 of 3 nodes are ready; node n3 is not ready"},
		{"Rnn", "", "1/3 Ready=False QuorumAvailable=False Degraded=True Progressing=True: 1 of 3 nodes are ready; node n2 is not ready"},
		{"RRS", "", "2/3 Ready=True QuorumAvailable=True Degraded=True Progressing=False: 2 of 3 nodes are ready; node n3 is stopped"},
		{"RSn", "", "1/3 Ready=False QuorumAvailable=False Degraded=True Progressing=True: 1 of 3 nodes are ready; node n3 is not ready"},
		{"RRs", "", "3/3 Ready=True QuorumAvailable=True Degraded=True Progressing=False: 3 of 3 nodes are ready; node n3 is stopped"},
		{"RSS", "", "1/3 Ready=True QuorumAvailable=False Degraded=True Progressing=False: 1 of 3 nodes are ready; node n2 is stopped"},
		{"SSS", "", "0/3 Ready=False(Stopped) QuorumAvailable=False Degraded=True Progressing=False: every node is stopped; node n1 is stopped"},
		{"Rnn", "it is deleted", "1/3 Ready=False(Stopped) QuorumAvailable=False Degraded=True Progressing=False: every node is stopped; node n1 is stopped"},
		{"R", "", "1/1 Ready=True QuorumAvailable=True Degraded=False Progressing=False: 1 of 1 nodes are ready"},
	} {
		cl := v1alpha1.NewCluster()
		state := plan.State{Down: tc.down}
		for i, letter := range tc.nodes {
			id := fmt.Sprintf("n%d", i+1)
			cl.Spec.Nodes = append(cl.Spec.Nodes, v1alpha1.NodeSpec{ID: id, Stopped: letter == 'S' || letter == 's'})
			state.Nodes = append(state.Nodes, plan.Node{ID: id, Ready: letter == 'R' || letter == 's'})
		}
		c := &Controller{clock: timesvc.NewSystem(timesvc.Skew{})}
		st := c.clusterStatus(cl, state, nil)
		got := fmt.Sprintf("%d/%d", st.ReadyNodes, st.Nodes)
		for _, kind := range []string{v1alpha1.ClusterReady, v1alpha1.ClusterQuorumAvailable, v1alpha1.ClusterDegraded, v1alpha1.ClusterProgressing} {
			one := v1alpha1.FindCondition(st.Conditions, kind)
			got += fmt.Sprintf(" %s=%s", kind, one.Status)
			if one.Reason == v1alpha1.ClusterStopped {
				got += "(Stopped)"
			}
		}
		got += ": " + v1alpha1.FindCondition(st.Conditions, v1alpha1.ClusterReady).Message
		if why := v1alpha1.FindCondition(st.Conditions, v1alpha1.ClusterDegraded).Message; why != "" {
			got += "; " + why
		}
		if got != tc.want {
			t.Errorf("%s %s\n got %s\nwant %s", tc.nodes, strings.ToUpper(tc.down), got, tc.want)
		}
	}
}

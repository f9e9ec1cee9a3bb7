package controller

import (
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

func TestMetadataStaysWhileTheStatusChanges(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(func(c *v1alpha1.Cluster) { c.Spec.Nodes[1].Labels = map[string]string{"rack": "7"} })
		read := func() (metas []v1alpha1.ObjectMeta, versions []string) {
			nodes, err := w.Nodes("demo")
			must(t, err)
			cl, err := w.Cluster("demo")
			must(t, err)
			for _, m := range []v1alpha1.ObjectMeta{cl.ObjectMeta, nodes.Items[0].ObjectMeta, nodes.Items[1].ObjectMeta, nodes.Items[2].ObjectMeta} {
				versions = append(versions, m.ResourceVersion)
				m.ResourceVersion = ""
				metas = append(metas, m)
			}
			for _, n := range nodes.Items {
				if n.Status.ObservedGeneration != n.Generation {
					t.Errorf("%s: generation %d, observed %d", n.Name, n.Generation, n.Status.ObservedGeneration)
				}
			}
			return metas, versions
		}
		before, versions := read()
		if n2 := before[2]; n2.Namespace != "demo" || n2.UID == "" || n2.Generation != 1 || n2.CreationTimestamp.IsZero() || n2.Labels["rack"] != "7" {
			t.Errorf("%+v", n2)
		}
		must(t, w.Kill(t.Context(), "", "n2", syscall.SIGKILL))
		w.within(5*time.Second, "it runs again", func() bool { return w.status("n2").Phase == v1alpha1.NodeRunning })
		w.stop()
		w.begin()
		w.pass(5 * time.Second)
		after, now := read()
		if !reflect.DeepEqual(after, before) {
			t.Errorf("before %+v\nafter  %+v", before, after)
		}
		if now[2] == versions[2] || now[0] == versions[0] {
			t.Errorf("versions %q, then %q", versions, now)
		}
		must(t, w.Stop(t.Context(), "", "n2"))
		w.pass(5 * time.Second)
		after, _ = read()
		if after[0].Generation != 2 || after[2].Generation != 2 || after[1].Generation != 1 {
			t.Errorf("after a change of the spec: %+v", after)
		}
	})
}

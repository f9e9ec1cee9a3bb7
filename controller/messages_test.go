package controller

import (
	"strings"
	"testing"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

func TestMessagesOfAClusterThatDoesNotRunAreRefusedAtOnce(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		if _, _, err := w.Messages("nope"); v1alpha1.ReasonOf(err) != v1alpha1.ReasonNotFound {
			t.Errorf("no such cluster: %v", err)
		}
		w.apply(nil)
		w.running(nil)
		first, release, err := w.Messages("")
		must(t, err)
		second, release2, err := w.Messages("demo")
		must(t, err)
		if first != second {
			t.Error("one cluster has two clients")
		}
		release()
		release2()
		must(t, w.StopAll(t.Context(), ""))
		if _, _, err := w.Messages(""); err == nil || !strings.Contains(err.Error(), "NO_QUORUM") || !strings.Contains(err.Error(), "/cluster/start") {
			t.Errorf("nothing runs: %v", err)
		}
		w.Controller.messengers.close()
	})
}

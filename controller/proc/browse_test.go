package proc

import (
	"strings"
	"testing"
)

func TestWithoutADesktopBrowseSaysWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if err := Browse("http://127.0.0.1:8080/"); err == nil || !strings.Contains(err.Error(), "there is no ") {
		t.Errorf("Browse without a desktop: %v", err)
	}
}

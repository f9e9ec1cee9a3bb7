package timesvc

import (
	"testing"
	"time"
)

func TestLocalReferenceIgnoresStepsOfTheWall(t *testing.T) {
	v := NewVirtual(epoch)
	c := v.Node(Skew{Shift: 2 * time.Second})
	v.Advance(time.Second)
	r, one := NewLocalReference(c, 3), NewLocalReference(c, 1)
	c.Step(-time.Hour)
	v.Advance(5 * time.Second)
	us, eps := r.Now()
	if want := epoch.Add(8 * time.Second).UnixMicro(); us != want || eps != Unsynchronised {
		t.Fatalf("reference %d eps %d, want %d eps -1", us, eps, want)
	}
	if _, eps := one.Now(); eps != 0 {
		t.Fatalf("eps of one node %d, want 0", eps)
	}
}

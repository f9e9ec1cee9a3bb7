package timesvc

const (
	// Unsynchronised is the eps of a time that nothing vouches for.
	Unsynchronised int64 = -1

	// MaxEps is the largest uncertainty, in microseconds, that still counts as
	// synchronised.
	MaxEps int64 = 500_000

	// MaxLamport is the largest Lamport value: every integer up to it has an
	// exact double, so it survives JSON.
	MaxLamport uint64 = 1 << 53
)

// Stamp is what a leader writes on a batch.
type Stamp struct {
	TS      int64  // microseconds since 1970, greater than the stamp before
	Eps     int64  // half-width of TS's uncertainty in microseconds, or Unsynchronised
	Lamport uint64 // logical time, at most MaxLamport
}

// Stamper gives stamps that rise (a hybrid logical clock). The zero Stamper has
// seen nothing. It has one owner.
type Stamper struct {
	last    int64
	lamport Lamport
}

// Next returns a stamp above all earlier ones: the reference time ref with its
// eps, or, where that lies behind, one microsecond after the last stamp, with an
// eps that grows by how far the stamp runs ahead of ref.
func (s *Stamper) Next(ref, eps int64) Stamp {
	ts := max(s.last+1, ref)
	s.last = ts
	return Stamp{TS: ts, Eps: widen(eps, ts-ref), Lamport: s.lamport.Tick()}
}

// Observe takes note of a stamp that somebody else gave: a stamper that takes
// over goes on above it.
func (s *Stamper) Observe(st Stamp) {
	s.last = max(s.last, st.TS)
	s.lamport.Merge(st.Lamport)
}

// Merge takes note of a Lamport value that a client sent with its message.
// Values above MaxLamport count as MaxLamport.
func (s *Stamper) Merge(lamport uint64) { s.lamport.Merge(lamport) }

// Last returns the largest TS given or observed, 0 when there was none.
func (s *Stamper) Last() int64 { return s.last }

// Lamport returns the current Lamport value.
func (s *Stamper) Lamport() uint64 { return s.lamport.Now() }

func widen(eps, ahead int64) int64 {
	if eps < 0 || eps > MaxEps || ahead > MaxEps-eps {
		return Unsynchronised
	}
	return eps + ahead
}

// Lamport is a logical clock. The zero Lamport has seen nothing. It stops at
// MaxLamport instead of passing it. It has one owner.
type Lamport struct{ n uint64 }

// Tick moves the clock on by one and returns it.
func (l *Lamport) Tick() uint64 {
	l.n = min(l.n+1, MaxLamport)
	return l.n
}

// Merge moves the clock up to n, at most to MaxLamport. The next Tick is above
// n, unless the clock has come to its end.
func (l *Lamport) Merge(n uint64) { l.n = min(max(l.n, n), MaxLamport) }

// Now returns the clock's value without moving it.
func (l *Lamport) Now() uint64 { return l.n }

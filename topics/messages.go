package topics

import "encoding/binary"

// messageVersion is the first byte of the bodies of Requests, Results and Nacks,
// which docs/format/requests.md describes.
const messageVersion = 1

const (
	originBytes        = 16
	requestHeaderBytes = 29
	resultBytes        = 87
)

// EncodeRequests appends the message that carries requests to a leader.
func EncodeRequests(b []byte, from Origin, requests []Request) []byte {
	b = appendMessage(b, from)
	for i := range requests {
		r := &requests[i]
		b = binary.LittleEndian.AppendUint64(b, r.Number)
		b = binary.LittleEndian.AppendUint64(b, r.Catalogue)
		b = binary.LittleEndian.AppendUint64(b, r.Lamport)
		b = append(b, byte(r.Kind))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(r.Body)))
		b = append(b, r.Body...)
	}
	return b
}

// DecodeRequests reads what EncodeRequests made. The bodies alias b.
func DecodeRequests(b []byte) (from Origin, requests []Request, err error) {
	r, from := openMessage(b)
	requests = make([]Request, 0, min(len(r.b)/requestHeaderBytes, RememberedResults))
	for last := uint64(0); r.err == nil && len(r.b) > 0; {
		q := Request{Number: r.u64(), Catalogue: r.u64(), Lamport: r.u64(), Kind: Kind(r.u8())}
		n := r.u32()
		if n > MaxCommandBytes-HeaderBytes || q.Number <= last || len(requests) == RememberedResults {
			r.fail()
		}
		q.Body = r.take(int(n))
		last = q.Number
		requests = append(requests, q)
	}
	if err := r.end("requests"); err != nil {
		return Origin{}, nil, err
	}
	return from, requests, nil
}

// EncodeResults appends the message that carries results back to an origin.
func EncodeResults(b []byte, to Origin, results []Result) []byte {
	b = appendMessage(b, to)
	for i := range results {
		b = results[i].append(b)
	}
	return b
}

// append encodes a result: for a message, and for a state file.
func (r *Result) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, r.Number)
	b = append(b, byte(r.Code), byte(r.Effect), boolByte(r.Duplicate)|boolByte(r.NoOffset)<<1)
	b = binary.LittleEndian.AppendUint32(b, r.Partition)
	b = binary.LittleEndian.AppendUint32(b, r.Count)
	b = binary.LittleEndian.AppendUint64(b, r.UID)
	b = binary.LittleEndian.AppendUint64(b, r.Base)
	b = binary.LittleEndian.AppendUint64(b, r.Expected)
	b = binary.LittleEndian.AppendUint64(b, r.TS)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.EPS))
	b = binary.LittleEndian.AppendUint64(b, r.Lamport)
	b = binary.LittleEndian.AppendUint64(b, r.Term)
	b = binary.LittleEndian.AppendUint64(b, r.Index)
	return append(b, r.Synced, r.Replicas, 0, 0)
}

func (r *reader) result() Result {
	q := Result{Number: r.u64(), Code: Code(r.u8()), Effect: Effect(r.u8())}
	flags := r.u8()
	q.Duplicate, q.NoOffset = flags&1 != 0, flags&2 != 0
	q.Partition, q.Count = r.u32(), r.u32()
	q.UID, q.Base, q.Expected = r.u64(), r.u64(), r.u64()
	q.TS, q.EPS, q.Lamport = r.u64(), int64(r.u64()), r.u64()
	q.Term, q.Index = r.u64(), r.u64()
	q.Synced, q.Replicas = r.u8(), r.u8()
	if r.u16() != 0 || flags > 3 {
		r.fail()
	}
	return q
}

// DecodeResults reads what EncodeResults made.
func DecodeResults(b []byte) (to Origin, results []Result, err error) {
	r, to := openMessage(b)
	if len(r.b)%resultBytes != 0 || len(r.b)/resultBytes > 4*RememberedResults {
		r.fail()
	}
	results = make([]Result, 0, len(r.b)/resultBytes)
	for r.err == nil && len(r.b) > 0 {
		results = append(results, r.result())
	}
	if err := r.end("results"); err != nil {
		return Origin{}, nil, err
	}
	return to, results, nil
}

// EncodeNack appends the message that carries a Nack back to an origin.
func EncodeNack(b []byte, to Origin, n Nack) []byte {
	b = appendMessage(b, to)
	b = binary.LittleEndian.AppendUint64(b, n.Expect)
	return append(b, boolByte(n.Busy))
}

// DecodeNack reads what EncodeNack made.
func DecodeNack(b []byte) (to Origin, n Nack, err error) {
	r, to := openMessage(b)
	n = Nack{Expect: r.u64(), Busy: r.bool()}
	if err := r.end("nack"); err != nil {
		return Origin{}, Nack{}, err
	}
	return to, n, nil
}

// EncodeAsk appends the message that asks a leader for a promise.
func EncodeAsk(b []byte) []byte { return append(b, messageVersion) }

// DecodeAsk reads what EncodeAsk made.
func DecodeAsk(b []byte) error {
	r := reader{b: b}
	if r.u8() != messageVersion {
		r.fail()
	}
	return r.end("ask")
}

// EncodePromise appends the message that carries a leader's promise.
func EncodePromise(b []byte, p Promise) []byte {
	b = append(b, messageVersion)
	b = binary.LittleEndian.AppendUint64(b, p.Term)
	b = binary.LittleEndian.AppendUint64(b, p.After)
	return binary.LittleEndian.AppendUint64(b, p.Safe)
}

// DecodePromise reads what EncodePromise made.
func DecodePromise(b []byte) (Promise, error) {
	r := reader{b: b}
	if r.u8() != messageVersion {
		r.fail()
	}
	p := Promise{Term: r.u64(), After: r.u64(), Safe: r.u64()}
	if p.Term == 0 || p.After > p.Safe || p.Safe > maxStampTS {
		r.fail()
	}
	if err := r.end("promise"); err != nil {
		return Promise{}, err
	}
	return p, nil
}

// maxStampTS bounds the stamps of promises: they are int64.
const maxStampTS = 1<<63 - 1

func appendMessage(b []byte, o Origin) []byte {
	b = append(b, messageVersion)
	b = binary.LittleEndian.AppendUint64(b, o.RaftID)
	return binary.LittleEndian.AppendUint64(b, o.Counter)
}

func openMessage(b []byte) (reader, Origin) {
	r := reader{b: b}
	if r.u8() != messageVersion {
		r.fail()
	}
	return r, Origin{RaftID: r.u64(), Counter: r.u64()}
}

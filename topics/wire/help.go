package wire

// usage is what HELP says, in this order.
var usage = [...]struct {
	verb  Verb
	lines []string
}{
	{Ping, []string{"PING [text]: answers PONG [text]"}},
	{Pub, []string{"PUB <topic> <the rest of the line>: publishes the rest of the line"}},
	{Pubn, []string{
		"PUBN <topic> <nbytes> [key=...] [id=...] [p=<producer> seq=<n>] [lam=<n>] [hdr.<name>=...] [timeout=10s] [noack] [tag=...]",
		"  the next nbytes bytes are the payload, LF follows them",
	}},
	{Sub, []string{
		"SUB <topic|pattern>[,...] [<sid>] [from=...[,...]] [order=offset|time] [maxdelay=200ms] [limit=n]: messages come as MSG lines",
		"  order=time merges all by ts; a message waits at most maxdelay for others, and one that comes too late for that has late=1",
	}},
	{Unsub, []string{"UNSUB <sid>: ends a subscription"}},
	{History, []string{
		"HISTORY <topic> [from=...] [until=...] [last=n] [limit=n] [reverse] [read=linearizable|session|local]",
		"  from and until: earliest, latest, an offset, a time (RFC 3339) or a duration back (-10m)",
	}},
	{Topics, []string{"TOPICS [<topic|pattern>[,...]]: lists topics, a line for each partition"}},
	{Info, []string{"INFO: lists nodes"}},
	{Time, []string{"TIME: lists the nodes' clocks, against the cluster's time"}},
	{Help, []string{"HELP [verb]"}},
	{Quit, []string{"QUIT: closes the connection"}},
}

// AppendHelp appends the answer to HELP, for one verb or, when verb is "", for
// all. A verb that is not there gives UNKNOWN_VERB and dst unchanged.
func AppendHelp(dst []byte, verb string) ([]byte, *Error) {
	known := verb == ""
	out := dst
	for _, u := range usage {
		if verb != "" && verb != u.verb.String() {
			continue
		}
		known = true
		for _, line := range u.lines {
			out = append(append(append(out, "HELP "...), line...), '\n')
		}
	}
	if !known {
		return dst, Errorf(UnknownVerb, "%s: HELP lists the verbs", quote(verb))
	}
	return append(out, "+END\n"...), nil
}

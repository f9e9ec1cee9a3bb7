package raftnode

import (
	"context"
	"fmt"
	"log/slog"
)

// raftLogger is where raft's own words go. Its informative lines come once per
// vote and message of an election, so they are debug lines here; the node says
// itself what changed, from Output.States. When raft gives up, the panic says
// in which group and why.
type raftLogger struct {
	log   *slog.Logger // nil: silent
	group GroupID
}

func (l raftLogger) say(level slog.Level, text func() string) {
	if l.log == nil || !l.log.Enabled(context.Background(), level) {
		return
	}
	l.log.Log(context.Background(), level, "raft says", "group", l.group.String(), "reason", text())
}

func (l raftLogger) stop(text string) {
	panic("raftnode: group " + l.group.String() + ": raft stopped: " + text)
}

func line(v []any) func() string { return func() string { return fmt.Sprint(v...) } }

func linef(format string, v []any) func() string {
	return func() string { return fmt.Sprintf(format, v...) }
}

func (l raftLogger) Debug(v ...any)                   { l.say(slog.LevelDebug, line(v)) }
func (l raftLogger) Debugf(format string, v ...any)   { l.say(slog.LevelDebug, linef(format, v)) }
func (l raftLogger) Info(v ...any)                    { l.say(slog.LevelDebug, line(v)) }
func (l raftLogger) Infof(format string, v ...any)    { l.say(slog.LevelDebug, linef(format, v)) }
func (l raftLogger) Warning(v ...any)                 { l.say(slog.LevelWarn, line(v)) }
func (l raftLogger) Warningf(format string, v ...any) { l.say(slog.LevelWarn, linef(format, v)) }
func (l raftLogger) Error(v ...any)                   { l.say(slog.LevelError, line(v)) }
func (l raftLogger) Errorf(format string, v ...any)   { l.say(slog.LevelError, linef(format, v)) }
func (l raftLogger) Fatal(v ...any)                   { l.stop(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(format string, v ...any)   { l.stop(fmt.Sprintf(format, v...)) }
func (l raftLogger) Panic(v ...any)                   { l.stop(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(format string, v ...any)   { l.stop(fmt.Sprintf(format, v...)) }

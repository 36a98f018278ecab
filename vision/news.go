package vision

import "log/slog"

// news tells an error that is new from one that stays: what is tried again and
// again is logged once for each reason, as the state and health have it anyway.
type news struct{ last string }

// level is the one to log an error at: less than level where it was logged just
// before.
func (n *news) level(err error, level slog.Level) slog.Level {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == n.last {
		return slog.LevelDebug
	}
	n.last = text
	return level
}

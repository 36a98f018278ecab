package main

import (
	"io"
	"log/slog"
	"os"

	"gopkg.in/natefinch/lumberjack.v2"
)

// setLevel sets the level that cfg names.
func setLevel(level *slog.LevelVar, cfg LogConfig) {
	_ = level.UnmarshalText([]byte(cfg.Level)) // checked with the configuration
}

// openLog makes the logger that cfg describes, but for its level. The closer
// ends its file.
func openLog(cfg LogConfig, level *slog.LevelVar) (*slog.Logger, io.Closer) {
	opt := &slog.HandlerOptions{Level: level}
	if cfg.File == "" {
		return slog.New(slog.NewTextHandler(os.Stderr, opt)), io.NopCloser(nil)
	}
	file := &lumberjack.Logger{
		Filename: cfg.File, MaxSize: int(max(1, cfg.MaxBytes>>20)), MaxBackups: cfg.Keep, Compress: true,
	}
	return slog.New(slog.NewJSONHandler(file, opt)), file
}

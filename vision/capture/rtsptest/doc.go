// Package rtsptest is a camera for tests: a real RTSP server on loopback that
// plays real H.264, H.265 or Motion JPEG, and that can fail as cameras do. It
// can stall, vanish without closing, change its resolution and ask for a
// password.
//
// It is used by tests and by the soak of the cameras alone.
package rtsptest

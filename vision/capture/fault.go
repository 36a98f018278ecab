//go:build !novision

package capture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/liberrors"
)

// advice is what someone at the machine should do.
var advice = map[Fault]string{
	FaultHost:         "check the name, or give the camera's IP address",
	FaultRoute:        "check the address, the cable and that this machine has an address in the camera's network",
	FaultRefused:      "check that RTSP is switched on in the camera and its port, which is 554 where the address names none",
	FaultTimeout:      "check that the camera has power, that the address is its own, and that no firewall is between",
	FaultUnauthorised: "check user and password, and that this user may see live pictures; some cameras have users of their own for RTSP or ONVIF",
	FaultPath:         "check the path; it differs from maker to maker, and the camera's manual or its ONVIF page names it",
	FaultAnswer:       "check that the port is that of RTSP and not of the camera's web page, and that the camera is not serving as many readers as it can",
	FaultVideo:        "set the camera's stream to H.264",
	FaultKeyframe:     "set the camera's keyframe (GOP, I-frame) interval to about one second",
}

// FaultError is a fault with what was seen of it.
type FaultError struct {
	Fault Fault
	err   error
}

// Error says what was seen and what to do.
func (e *FaultError) Error() string { return fmt.Sprintf("%v: %s", e.err, advice[e.Fault]) }

// Unwrap returns what was seen.
func (e *FaultError) Unwrap() error { return e.err }

// Advice is what someone at the machine should do.
func (e *FaultError) Advice() string { return advice[e.Fault] }

// errNotUnderstood is wrapped where a camera answers in a way that our own
// client does not understand, but OpenCV might.
var errNotUnderstood = errors.New("the answer is not understood")

// rtspFault names what an error of our own client means. Where a camera closes
// the connection that is io.EOF, which is not wrapped: to a Source's reader it
// is the end of a recording, for good.
func rtspFault(ctx context.Context, err error) error {
	var status liberrors.ErrClientBadStatusCode
	var dns *net.DNSError
	var fault Fault
	switch {
	case errors.As(err, &status):
		fault, err = statusFault(status.Code), fmt.Errorf("the camera answers %d %s", status.Code, status.Message)
	case errors.As(err, &dns) && !dns.IsTimeout:
		fault = FaultHost
	case errors.Is(err, syscall.ECONNREFUSED):
		fault = FaultRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		fault = FaultRoute
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), isTimeout(err), ctx.Err() != nil:
		fault, err = FaultTimeout, errors.New("no answer in time")
	case errors.As(err, &liberrors.ErrClientSDPInvalid{}), errors.As(err, &liberrors.ErrClientSessionHeaderInvalid{}):
		return fmt.Errorf("%w: %s", errNotUnderstood, err.Error())
	default:
		fault, err = FaultAnswer, errors.New(err.Error())
	}
	return &FaultError{fault, err}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() || errors.As(err, &liberrors.ErrClientRequestTimedOut{})
}

// statusFault reads an RTSP status (RFC 2326, section 7.1.1).
func statusFault(code base.StatusCode) Fault {
	switch code {
	case base.StatusUnauthorized, base.StatusForbidden:
		return FaultUnauthorised
	case base.StatusNotFound:
		return FaultPath
	}
	return FaultAnswer
}

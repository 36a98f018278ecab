//go:build !novision && matprofile && soak

package capture

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"gocv.io/x/gocv"

	"outstation/vision"
	"outstation/vision/capture/rtsptest"
)

// soakCameras is how many cameras fail and come back at once.
const soakCameras = 8

// usage is what a process holds.
type usage struct {
	Mats       int `json:"mats"`
	RSS        int `json:"rss_kib"`
	Threads    int `json:"threads"`
	Goroutines int `json:"goroutines"`
	Files      int `json:"files"`
}

func used(t *testing.T) usage {
	t.Helper()
	runtime.GC()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	field := func(name string) (n int) {
		_, after, _ := strings.Cut(string(status), "\n"+name+":")
		fmt.Sscan(after, &n)
		return n
	}
	return usage{Mats: gocv.MatProfile.Count(), RSS: field("VmRSS"), Threads: field("Threads"), Goroutines: runtime.NumGoroutine(), Files: openFiles(t)}
}

// TestSoak fails cameras in turn for MINUTES and prints one JSON object. What
// the process holds is taken after a tenth and half of the time and at the end, each
// time with all cameras online.
func TestSoak(t *testing.T) {
	minutes, err := strconv.ParseFloat(os.Getenv("MINUTES"), 64)
	if err != nil || minutes <= 0 {
		t.Fatalf("MINUTES is %q, want a number above 0", os.Getenv("MINUTES"))
	}
	length := time.Duration(minutes * float64(time.Minute))
	servers := make([]*rtsptest.Server, soakCameras)
	var cameras []vision.CameraOptions
	for i := range servers {
		o := rtsptest.Options{FPS: 10, Clip: coded(t, rtsptest.H264, 320+16*i, 240)}
		if servers[i], err = rtsptest.Start(o); err != nil {
			t.Fatal(err)
		}
		factory, err := Factory(Options{URL: servers[i].URL(), Decoder: both[i%2], ReadTimeout: time.Second, OpenTimeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		cameras = append(cameras, vision.CameraOptions{ID: fmt.Sprint(i), NewSource: factory, Model: "looker", StallAfter: 5 * time.Second})
	}
	p := serve(t, nil, cameras...)
	began, early, half := time.Now(), usage{}, usage{}
	var wide [soakCameras]bool
	for round := 0; time.Since(began) < length; round++ {
		allOnline(t, p) // one that has not seen the old resolution would not mind the new
		i := rand.IntN(soakCameras)
		servers[i] = upset(t, servers[i], round, &wide[i])
		if early.Files == 0 && time.Since(began) > length/10 {
			allOnline(t, p)
			early = used(t)
		}
		if half.Files == 0 && time.Since(began) > length/2 {
			allOnline(t, p)
			half = used(t)
		}
	}
	allOnline(t, p)
	late := used(t)
	var frames, reconnects uint64
	for _, c := range p.Stats().Cameras {
		frames += c.Frames
		reconnects += c.Reconnects
	}
	line, err := json.Marshal(map[string]any{
		"soak": "cameras", "minutes": minutes, "cameras": soakCameras, "frames": frames, "reconnects": reconnects, "after_a_tenth": early, "after_half": half, "end": late,
	})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(string(line))
	// A camera has up to three images of two Mats, as the moment has it.
	if late.Mats > early.Mats+2*3*soakCameras || late.Files > early.Files+8 || late.Goroutines > early.Goroutines+16 {
		t.Errorf("it grew: %+v, then %+v", early, late)
	}
	for _, s := range servers {
		s.Close()
	}
}

// upset fails a camera in one of the ways in turn and brings it back. A server
// whose connections died is replaced, since it would hold them for ever.
func upset(t *testing.T, s *rtsptest.Server, round int, wide *bool) *rtsptest.Server {
	t.Helper()
	before := s.Played()
	switch round % 3 {
	case 0:
		s.Stall(true)
		time.Sleep(1500 * time.Millisecond) // the time-out is what is waited for
		s.Stall(false)
	case 1:
		width := 608
		if *wide = !*wide; *wide {
			width = 640
		}
		s.Play(coded(t, rtsptest.H264, width, 240))
	default:
		o := rtsptest.Options{FPS: 10, Clip: coded(t, rtsptest.H264, 320, 240), Address: s.Address()}
		s.Die(true)
		time.Sleep(1500 * time.Millisecond)
		s.Close()
		var err error
		if s, err = rtsptest.Start(o); err != nil {
			t.Fatal(err)
		}
		before = 0
	}
	for deadline := time.Now().Add(time.Minute); s.Played() == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("round %d: nobody came back", round)
		}
	}
	return s
}

// allOnline waits until every camera is.
func allOnline(t *testing.T, p *vision.Pipeline) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		online := 0
		for _, c := range p.Stats().Cameras {
			if c.State == vision.Online {
				online++
			}
		}
		if online == soakCameras {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d cameras are online: %+v", online, soakCameras, p.Stats().Cameras)
		}
	}
}

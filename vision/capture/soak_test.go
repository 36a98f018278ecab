//go:build !novision && matprofile && soak

package capture

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gocv.io/x/gocv"

	"outstation/vision"
)

// soakCameras is how many cameras there are. They send pictures of up to
// soakWidth×soakHeight.
const (
	soakCameras = 8
	soakWidth   = 1280
	soakHeight  = 720
)

// usage is what a process holds.
type usage struct {
	Mats       int `json:"mats"`
	RSS        int `json:"rss_kib"`
	Anonymous  int `json:"rss_anon_kib"` // the part of it that is no file's
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
	return usage{Mats: gocv.MatProfile.Count(), RSS: field("VmRSS"), Anonymous: field("RssAnon"), Threads: field("Threads"), Goroutines: runtime.NumGoroutine(), Files: openFiles(t)}
}

// TestSoak fails half of the cameras at a time for MINUTES and prints one JSON
// object. What the process holds is taken after each tenth of the time, with all
// cameras online. The servers are in another process.
func TestSoak(t *testing.T) {
	if os.Getenv("SOAK_SERVES") != "" {
		serveOrders(t)
		return
	}
	minutes, err := strconv.ParseFloat(os.Getenv("MINUTES"), 64)
	if err != nil || minutes <= 0 {
		t.Fatalf("MINUTES is %q, want a number above 0", os.Getenv("MINUTES"))
	}
	if err := GiveMemoryBack(); err != nil { // as the appliance does
		t.Fatal(err)
	}
	length := time.Duration(minutes * float64(time.Minute))
	servers := startServers(t)
	p := serve(t, nil, soaked(t, servers)...)
	began := time.Now()
	var tenths []usage
	var wide [soakCameras]bool
	for round := 0; len(tenths) < 10; round++ {
		allOnline(t, p) // one that has not seen the old resolution would not mind the new
		upsetHalf(t, servers, round, &wide)
		if time.Since(began) >= length*time.Duration(len(tenths)+1)/10 {
			allOnline(t, p)
			tenths = append(tenths, used(t))
			t.Logf("after %d tenths: %+v", len(tenths), tenths[len(tenths)-1])
		}
	}
	early, late := tenths[0], tenths[9]
	var frames, reconnects uint64
	for _, c := range p.Stats().Cameras {
		frames += c.Frames
		reconnects += c.Reconnects
	}
	line, err := json.Marshal(map[string]any{
		"soak": "cameras", "minutes": minutes, "cameras": soakCameras, "frames": frames, "reconnects": reconnects, "after_each_tenth": tenths,
	})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(string(line))
	// A camera has up to three images of two Mats, as the moment has it.
	if late.Mats > early.Mats+2*3*soakCameras || late.Files > early.Files+8 || late.Goroutines > early.Goroutines+16 {
		t.Errorf("it grew: %+v, then %+v", early, late)
	}
	if late.Anonymous > early.Anonymous+early.Anonymous/8 {
		t.Errorf("anonymous memory was %d KiB after a tenth and is %d KiB", early.Anonymous, late.Anonymous)
	}
}

// soaked are the cameras, each with a server of its own and in turn with each decoder.
func soaked(t *testing.T, servers *cameraServers) (cameras []vision.CameraOptions) {
	t.Helper()
	for i := range soakCameras {
		var url string
		if err := servers.do(&url, "start", i, soakWidth-16*i); err != nil {
			t.Fatal(err)
		}
		factory, err := Factory(Options{URL: url, Decoder: both[i%2], ReadTimeout: time.Second, OpenTimeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		cameras = append(cameras, vision.CameraOptions{ID: fmt.Sprint(i), NewSource: factory, Model: "looker", StallAfter: 5 * time.Second})
	}
	return cameras
}

// upsetHalf fails half of the cameras, chosen by chance, at once.
func upsetHalf(t *testing.T, servers *cameraServers, round int, wide *[soakCameras]bool) {
	t.Helper()
	var all sync.WaitGroup
	var errs [soakCameras]error
	for n, i := range rand.Perm(soakCameras)[:soakCameras/2] {
		all.Go(func() { errs[i] = upset(servers, i, round+n, &wide[i]) })
	}
	all.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
}

// upset fails a camera in one of the ways in turn and brings it back.
func upset(servers *cameraServers, i, way int, wide *bool) error {
	var before, now int
	if err := servers.do(&before, "played", i, "?"); err != nil {
		return err
	}
	var err error
	switch way % 3 {
	case 0:
		err = servers.do(&now, "stall", i, true)
		time.Sleep(1500 * time.Millisecond) // the time-out is what is waited for
		err = errors.Join(err, servers.do(&now, "stall", i, false))
	case 1:
		width := soakWidth - 16*soakCameras
		if *wide = !*wide; *wide {
			width -= 64
		}
		err = servers.do(&now, "play", i, width)
	default:
		err = servers.do(&now, "die", i, true)
		time.Sleep(1500 * time.Millisecond)
		err = errors.Join(err, servers.do(&now, "replace", i, soakWidth))
		before, *wide = 0, false
	}
	for deadline := time.Now().Add(time.Minute); err == nil; time.Sleep(10 * time.Millisecond) {
		if err = servers.do(&now, "played", i, "?"); now > before {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("way %d: nobody came back to camera %d", way%3, i)
		}
	}
	return err
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

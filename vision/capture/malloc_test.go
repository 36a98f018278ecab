//go:build !novision

package capture

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"gocv.io/x/gocv"
)

// residentMiB is what this process holds of anonymous memory.
func residentMiB(t *testing.T) (mib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "\nRssAnon:")
	fmt.Sscan(after, &mib)
	return mib >> 10
}

// TestMemoryOfPicturesIsGivenBack also after larger pictures were freed, which
// raises glibc's threshold, and while a small piece lies above each, which keeps
// an arena from shrinking.
func TestMemoryOfPicturesIsGivenBack(t *testing.T) {
	if err := GiveMemoryBack(); err != nil {
		t.Fatal(err)
	}
	large := gocv.NewMatWithSize(2160, 3840, gocv.MatTypeCV8UC3)
	large.Close()
	before := residentMiB(t)
	var pictures, small []gocv.Mat
	for range 40 {
		pictures = append(pictures, gocv.NewMatWithSizeFromScalar(gocv.NewScalar(1, 2, 3, 0), 720, 1280, gocv.MatTypeCV8UC3))
		small = append(small, gocv.NewMatWithSize(8, 8, gocv.MatTypeCV8UC3))
	}
	most := residentMiB(t)
	for _, m := range pictures {
		m.Close()
	}
	after := residentMiB(t)
	for _, m := range small {
		m.Close()
	}
	if most < before+90 {
		t.Fatalf("40 pictures of 2.6 MiB took %d MiB: the test measures nothing", most-before)
	}
	if after > before+20 {
		t.Errorf("got %d MiB more than before the pictures, of %d; want them given back", after-before, most-before)
	}
}

//go:build !novision

package capture

// #include <malloc.h>
// static int hold_threshold(int bytes) {
// #ifdef __GLIBC__
//	return mallopt(M_MMAP_THRESHOLD, bytes);
// #else
//	return 1; // only glibc keeps what it has grown to
// #endif
// }
import "C"

import "fmt"

// pictureBytes is the size from which on memory is mapped by itself, so that
// freeing it gives it back. It is what glibc begins with.
const pictureBytes = 128 << 10

// GiveMemoryBack has the C library return the memory of pictures to the system
// when they are freed. It is for the whole process, and to be called once, before
// the first source is opened.
//
// By itself glibc raises that size to that of the largest picture that was ever
// freed, up to 32 MiB. From then on pictures lie in arenas, of which it has up to
// eight a core, and each keeps what it once grew to: a process whose cameras
// come and go holds several times of what it uses.
func GiveMemoryBack() error {
	if C.hold_threshold(pictureBytes) != 1 {
		return fmt.Errorf("capture: the C library does not map memory of %d bytes by itself: after many reconnects the process will hold more than it uses", pictureBytes)
	}
	return nil
}

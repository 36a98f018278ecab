//go:build !novision

package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"gocv.io/x/gocv"

	"outstation/vision"
)

// lookEvery is how often a watched directory is looked at, and lookAtLeast how
// often where that takes long. A picture is read after two looks that found it
// the same.
const (
	lookEvery   = 200 * time.Millisecond
	lookAtLeast = 30 * time.Second
)

// maxPicture is the largest file that is read, in bytes.
const maxPicture = 512 << 20

// pictures is the source of a directory of JPEG and PNG files.
type pictures struct {
	target  target
	ctx     context.Context
	listing listing
	waiting []string  // names to be read
	due     time.Time // when the next may be read
	read    int       // pictures, of this round
	bad     int       // files that are none, of this round
	images  *pool
}

var _ vision.Waiter = (*pictures)(nil)

// Waits says that Read ends with the context of Open: a directory that no
// picture comes to must not be opened again, which would read all anew.
func (p *pictures) Waits() {}

func newPictures(t target) vision.Source { return &pictures{target: t, images: &pool{}} }

// Open lists the directory. An empty one is an error unless it is watched.
func (p *pictures) Open(ctx context.Context) (err error) {
	p.ctx = ctx
	p.waiting, err = p.listing.look(p.target.folder.path, p.target.folder.watch)
	if err == nil && len(p.waiting) == 0 && !p.target.folder.watch {
		err = errors.New("the directory holds no file")
	}
	if err != nil {
		return fmt.Errorf("capture: %s: %w: %w: check the path and that this user may read it; a directory that pictures come to later wants ?watch=1", p.target.name, ErrOpen, withoutPath(err))
	}
	return nil
}

// Read returns the next picture. A file that is none is told to Skipped and
// left out.
func (p *pictures) Read() (vision.Frame, error) {
	if err := p.pace(); err != nil {
		return vision.Frame{}, err
	}
	for {
		name, err := p.next()
		if err != nil {
			return vision.Frame{}, err
		}
		file := filepath.Join(p.target.folder.path, name)
		m := p.images.get()
		if err := m.load(file); err != nil {
			m.Close()
			p.bad++
			if p.target.Skipped != nil {
				p.target.Skipped(file, err)
			}
			continue
		}
		p.read++
		at := time.Now()
		p.due = at.Add(p.target.folder.interval)
		return vision.Frame{Arrived: at, Width: m.mat.Cols(), Height: m.mat.Rows(), Image: m}, nil
	}
}

// pace waits until the next picture is due.
func (p *pictures) pace() error {
	if wait := time.Until(p.due); p.target.folder.interval > 0 && wait > 0 {
		return sleep(p.ctx, wait)
	}
	return p.ctx.Err()
}

// next is the name of the next file. For a watched directory it waits for one.
func (p *pictures) next() (name string, err error) {
	for len(p.waiting) == 0 {
		if !p.target.folder.watch {
			err = p.again()
		} else if err = sleep(p.ctx, p.listing.rest()); err == nil {
			p.waiting, err = p.listing.look(p.target.folder.path, true)
		}
		switch {
		case errors.Is(err, io.EOF), p.ctx.Err() != nil:
			return "", err
		case err != nil:
			return "", fmt.Errorf("capture: %s: %w: %w", p.target.name, ErrRead, err)
		}
	}
	name, p.waiting = p.waiting[0], p.waiting[1:]
	return name, nil
}

// again decides what the end of the directory means: an error, the end, or
// (nil) its next round.
func (p *pictures) again() (err error) {
	switch {
	case p.read == 0:
		return fmt.Errorf("none of the %d files is a JPEG or PNG that can be decoded", p.bad)
	case !p.target.Loop:
		return io.EOF
	}
	p.read, p.bad, p.listing = 0, 0, listing{}
	p.waiting, err = p.listing.look(p.target.folder.path, false)
	if err == nil && len(p.waiting) == 0 {
		err = errors.New("the directory holds no file any more")
	}
	return err
}

// Close frees the pool. Frames that are still out stay valid.
func (p *pictures) Close() error {
	p.images.close()
	return nil
}

// load decodes a file into m. OpenCV would take half a JPEG for a whole one,
// and may leave what was in a Mat when it knows no decoder, so both are looked
// at here and the Mat is a new one.
func (m *Image) load(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.Size() > maxPicture {
		return fmt.Errorf("%d bytes, at most %d are read", info.Size(), maxPicture)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := complete(data); err != nil {
		return err
	}
	mat, err := gocv.IMDecode(data, gocv.IMReadColor)
	if err != nil || mat.Empty() || mat.Type() != gocv.MatTypeCV8UC3 {
		mat.Close()
		return errors.Join(errors.New("it cannot be decoded"), err)
	}
	m.mat.Close()
	m.mat = mat
	return nil
}

// complete checks that data begins as a JPEG or PNG and has its end, which
// programs may follow with a little of their own.
func complete(data []byte) error {
	tail := data[max(0, len(data)-4096):]
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xd8, 0xff}):
		if !bytes.Contains(tail, []byte{0xff, 0xd9}) {
			return errors.New("a JPEG without its end")
		}
	case bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")):
		if !bytes.Contains(tail, []byte("IEND")) {
			return errors.New("a PNG without its end")
		}
	default:
		return errors.New("neither JPEG nor PNG")
	}
	return nil
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

//go:build !novision

package onnx

import (
	"errors"
	"fmt"
)

// binding is the memory of as many pictures as one run may have, and a session
// for each number of them that is run. All of it is made once, and all
// sessions read and write the same memory from its beginning.
type binding struct {
	*memory
	sessions []sized // the smallest first
	proof    proof   // of the last
}

// sized is the session for one size of batch.
type sized struct {
	batch   int
	session session
}

// bind makes the memory, and a session on one provider for each of the sizes,
// which ascend.
func bind(o Options, provider string, s shape, sizes []int) (*binding, error) {
	b, err := unbound(s, sizes[len(sizes)-1])
	if err != nil {
		return nil, err
	}
	for _, size := range sizes {
		if err := b.connect(o, provider, size); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	return b, nil
}

// unbound is a binding for n pictures without sessions.
func unbound(s shape, n int) (*binding, error) {
	m, err := newMemory(s, n)
	if err != nil {
		return nil, err
	}
	return &binding{memory: m}, nil
}

// connect makes the session for batches of one size.
func (b *binding) connect(o Options, provider string, size int) error {
	ins, outs, err := b.values(size)
	if err != nil {
		return err
	}
	session, shown, err := open(o, provider, b.shape, ins, outs, size)
	if err != nil {
		return fmt.Errorf("batch %d: %w", size, err)
	}
	b.sessions, b.proof = append(b.sessions, sized{size, session}), shown
	return b.ran(session, size)
}

// run runs the first n pictures in the smallest session that takes as many.
// What is in the memory of the further pictures is inspected with them and
// looked at by nobody.
func (b *binding) run(n int) error {
	for _, s := range b.sessions {
		if s.batch < n {
			continue
		}
		if err := s.session.Run(); err != nil {
			return err
		}
		return b.ran(s.session, s.batch)
	}
	return fmt.Errorf("a batch of %d, and sessions for %d at most", n, b.pictures)
}

// close frees the sessions before the tensors that they use. ONNX Runtime's
// environment stays: it does not support loading twice.
func (b *binding) close() error {
	var errs []error
	for _, s := range b.sessions {
		errs = append(errs, s.session.Destroy())
	}
	b.sessions = nil
	return errors.Join(append(errs, b.memory.close())...)
}

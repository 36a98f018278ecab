//go:build !novision

package onnx

import "errors"

// binding is a session and the memory that it reads and writes.
type binding struct {
	*memory
	session session
}

// bind makes memory and a session on one provider, for as many pictures as the
// graph wants in a run.
func bind(o Options, provider string, s shape) (*binding, error) {
	n := max(1, s.batch)
	m, err := newMemory(s, n)
	if err != nil {
		return nil, err
	}
	b := &binding{memory: m}
	ins, outs, err := m.values(n)
	if err == nil {
		b.session, err = open(o, provider, s, ins, outs)
	}
	if err == nil {
		err = m.ran(b.session, n)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// run inspects the pictures.
func (b *binding) run() error {
	if err := b.session.Run(); err != nil {
		return err
	}
	return b.ran(b.session, b.pictures)
}

// close frees the session before the tensors that it uses. ONNX Runtime's
// environment stays: it does not support loading twice.
func (b *binding) close() error {
	var errs []error
	if b.session != nil {
		errs = append(errs, b.session.Destroy())
		b.session = nil
	}
	return errors.Join(append(errs, b.memory.close())...)
}

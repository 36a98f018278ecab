package load

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"outstation/uplink/mosquittotest"
)

// Proxy is the line to the centre. It can be cut, which resets every
// connection and refuses new ones, and mended.
type Proxy struct {
	target  string
	address string

	mu    sync.Mutex
	ln    net.Listener // nil while the line is cut
	conns map[net.Conn]struct{}
	done  sync.WaitGroup
}

// NewProxy returns a line to target on a free loopback port, mended.
func NewProxy(target string) (*Proxy, error) {
	port, err := mosquittotest.FreePort()
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, address: fmt.Sprintf("127.0.0.1:%d", port), conns: map[net.Conn]struct{}{}}
	return p, p.Mend()
}

// Address is host:port of this end.
func (p *Proxy) Address() string { return p.address }

// Mend lets connections through; it does nothing on a line that is not cut.
func (p *Proxy) Mend() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln != nil {
		return nil
	}
	ln, err := net.Listen("tcp", p.address)
	if err != nil {
		return fmt.Errorf("mend the line: %w", err)
	}
	p.ln = ln
	p.done.Go(func() { p.accept(ln) })
	return nil
}

// Cut resets every connection and refuses new ones until Mend.
func (p *Proxy) Cut() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln == nil {
		return nil
	}
	errs := []error{p.ln.Close()}
	p.ln = nil
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			errs = append(errs, tcp.SetLinger(0)) // RST instead of FIN, and nothing more is sent
		}
		errs = append(errs, c.Close())
	}
	clear(p.conns)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cut the line: %w", err)
	}
	return nil
}

// Close cuts the line for good and waits for its goroutines.
func (p *Proxy) Close() error {
	err := p.Cut()
	p.done.Wait()
	return err
}

func (p *Proxy) accept(ln net.Listener) {
	for {
		near, err := ln.Accept()
		if err != nil {
			return // cut
		}
		p.done.Go(func() { p.carry(ln, near) })
	}
}

// carry joins one connection with the target until either end is closed.
func (p *Proxy) carry(ln net.Listener, near net.Conn) {
	far, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = near.Close() // the far end is away
		return
	}
	if !p.keep(ln, near, far) {
		return
	}
	var both sync.WaitGroup
	pump := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // it ends by a cut or by either end
		p.drop(near, far)
	}
	both.Go(func() { pump(far, near) })
	both.Go(func() { pump(near, far) })
	both.Wait()
}

// keep remembers a pair for the next Cut, unless one came in between.
func (p *Proxy) keep(ln net.Listener, near, far net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln != ln {
		_ = near.Close()
		_ = far.Close()
		return false
	}
	p.conns[near], p.conns[far] = struct{}{}, struct{}{}
	return true
}

func (p *Proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if _, ok := p.conns[c]; ok {
			delete(p.conns, c)
			_ = c.Close()
		}
	}
}

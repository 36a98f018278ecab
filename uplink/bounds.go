package uplink

// Bounds of a queue as a whole. Zero values mean what they mean in Options.
type Bounds struct {
	MaxBytes     int64
	MaxRecords   int64
	MaxDeadBytes int64
	MinFreeBytes uint64
}

// SetBounds replaces the bounds of the whole. They hold from the next message
// on; what is queued beyond them is evicted, the lowest priority first.
func (q *Queue) SetBounds(b Bounds) {
	o := withDefaults(Options{MaxBytes: b.MaxBytes, MaxRecords: b.MaxRecords, MaxDeadBytes: b.MaxDeadBytes, MinFreeBytes: b.MinFreeBytes})
	q.mu.Lock()
	q.opt.MaxBytes, q.opt.MaxRecords, q.opt.MaxDeadBytes, q.opt.MinFreeBytes = o.MaxBytes, o.MaxRecords, o.MaxDeadBytes, o.MinFreeBytes
	q.openRoom()
	q.mu.Unlock()
	q.watchDisk()
	signal(q.wakeKeeper)
}

// bounds are those that hold now.
func (q *Queue) bounds() Bounds {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Bounds{q.opt.MaxBytes, q.opt.MaxRecords, q.opt.MaxDeadBytes, q.opt.MinFreeBytes}
}

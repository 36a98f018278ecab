package web

import "time"

// CameraPictures are the pictures of a camera's events.
type CameraPictures struct {
	Snapshots        uint64    `json:"snapshots"`         // kept here and queued for the centre
	SnapshotsSkipped uint64    `json:"snapshots_skipped"` // events without one: the last was not done yet
	SnapshotsFailed  uint64    `json:"snapshots_failed"`  // events without one: it could not be made small enough, or kept
	LastSnapshot     string    `json:"last_snapshot"`     // SHA-256 of the last since the start, for /api/v1/snapshots/
	LastSnapshotAt   time.Time `json:"last_snapshot_at,omitzero"`
}

// SnapshotStore is where pictures are kept on the appliance; all is zero where no camera takes any.
type SnapshotStore struct {
	Pictures int    `json:"pictures"`
	Bytes    uint64 `json:"bytes"`
	MaxBytes uint64 `json:"max_bytes"`
	Stored   uint64 `json:"stored"`
	Evicted  uint64 `json:"evicted"` // the oldest, to keep within MaxBytes
	Expired  uint64 `json:"expired"` // too old
	Failed   uint64 `json:"failed"`
	Damaged  uint64 `json:"damaged"` // asked for, and not what their name says
	Foreign  int    `json:"foreign"` // files in the directory that are no pictures of the store
}

func (k sink) pictures(s Snapshot) {
	if s.Snapshots.MaxBytes == 0 {
		return
	}
	for _, c := range s.Cameras {
		l := []string{"camera", c.ID}
		k.counter("camera_snapshots_total", "Pictures that were kept and queued for the centre.", c.Snapshots, l...)
		k.counter("camera_snapshots_skipped_total", "Events without a picture, as the last was not done yet.", c.SnapshotsSkipped, l...)
		k.counter("camera_snapshots_failed_total", "Events without a picture, as it could not be made or kept.", c.SnapshotsFailed, l...)
	}
	st := s.Snapshots
	k.gauge("snapshots_pictures", "Pictures in the store.", float64(st.Pictures))
	k.gauge("snapshots_bytes", "Bytes of these pictures.", float64(st.Bytes))
	k.gauge("snapshots_max_bytes", "Bytes that the store may hold.", float64(st.MaxBytes))
	k.counter("snapshots_stored_total", "Pictures that were put into the store.", st.Stored)
	k.counter("snapshots_evicted_total", "Pictures removed to keep within the store's bytes.", st.Evicted)
	k.counter("snapshots_expired_total", "Pictures removed as too old.", st.Expired)
	k.counter("snapshots_failed_total", "Pictures that the store did not take.", st.Failed)
	k.counter("snapshots_damaged_total", "Pictures that were asked for and were not what their name says.", st.Damaged)
	k.gauge("snapshots_foreign_files", "Files in the store's directory that are none of its pictures.", float64(st.Foreign))
}

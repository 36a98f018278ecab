package web

// Shedding says whether a camera is inspected less often than it should be, to spare the device.
type Shedding struct {
	Priority   int     `json:"priority"`    // 1 to 10; the higher, the longer it is spared
	ReducedTo  float64 `json:"reduced_to"`  // frames a second; 0: it is not reduced
	ReducedFor string  `json:"reduced_for"` // why; empty when it is not
}

// Heat is the hottest sensor of the device.
type Heat struct {
	Known   bool    `json:"known"` // false: there is no sensor, or none that can be read
	Celsius float64 `json:"celsius"`
	Sensor  string  `json:"sensor"`
	HotAt   float64 `json:"hot_at"` // °C; 0: never
	Hot     bool    `json:"hot"`    // cameras are reduced until it has cooled down
}

func (k sink) shedding(s Snapshot) {
	for _, c := range s.Cameras {
		if c.Priority == 0 {
			continue // without a model there is nothing to reduce
		}
		k.gauge("camera_reduced_frames_per_second", "Frames a second to which the camera is reduced to spare the device, 0 where it is not.",
			c.ReducedTo, "camera", c.ID)
	}
	for _, d := range s.Detectors {
		behind := 0.0
		if d.Behind {
			behind = 1
		}
		k.gauge("detector_behind", "Whether the detector cannot keep up with the frames it is to inspect.", behind, "model", d.Model)
	}
	if s.Heat.Known {
		k.gauge("heat_celsius", "Temperature of the hottest sensor.", s.Heat.Celsius, "sensor", s.Heat.Sensor)
		hot := 0.0
		if s.Heat.Hot {
			hot = 1
		}
		k.gauge("heat_hot", "Whether cameras are reduced because of the heat.", hot)
	}
}

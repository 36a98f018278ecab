// Package framebench measures what one frame costs from decoded pixels to
// detections, through the same source and detector that the appliance runs.
//
// With the build tag novision it is empty.
package framebench

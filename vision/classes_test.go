package vision

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// knowing is a detector that says which classes it has.
type knowing struct {
	*fakeDetector
	classes []string
}

func (k knowing) Info() DetectorInfo { return DetectorInfo{Model: "m", Classes: k.classes} }

// TestClassesThatTheModelDoesNotHaveAreNamed, and no more once a model that has them took over.
func TestClassesThatTheModelDoesNotHaveAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		square := Polygon{{0, 0}, {1, 0}, {1, 1}}
		d, im := knowing{person(0), []string{"cat", "person"}}, &images{}
		rules := JudgeOptions{
			Only: []string{"person", "dgo"}, Classes: map[string]Limits{"dgo": {}, "cat": {}},
			Zones: []Zone{{Name: "gate", Area: square, Classes: []string{"peron"}}},
		}
		s := serve(t, Options{Models: model(d), Cameras: []CameraOptions{
			{ID: "a", Model: "m", NewSource: im.every(time.Second), Judge: rules},
			{ID: "b", Model: "m", NewSource: im.every(time.Second), Judge: JudgeOptions{Only: []string{"cat"}}},
		}})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := s.camera("a").UnknownClasses; !slices.Equal(got, []string{"dgo", "peron"}) {
			t.Errorf("unknown classes %q", got)
		}
		if got := s.camera("b").UnknownClasses; len(got) > 0 {
			t.Errorf("unknown classes of b %q", got)
		}
		if err := s.Swap(t.Context(), "m", func(context.Context) (Detector, error) {
			return knowing{person(0), []string{"dgo", "peron", "person", "cat"}}, nil
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := s.camera("a").UnknownClasses; len(got) > 0 {
			t.Errorf("unknown classes after the swap: %q", got)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}

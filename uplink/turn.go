package uplink

// A route whose lane or order changes leaves records in the streams that it
// had. A strict stream waits for what its route accepted earlier, wherever
// that is, so that the change itself cannot turn messages of a topic around.

// relate makes a new stream and those of its route known to each other; mu is
// held.
func (q *Queue) relate(s *stream) {
	for _, other := range q.order {
		if other.id.route == s.id.route {
			other.siblings = append(other.siblings, s)
			s.siblings = append(s.siblings, other)
		}
	}
}

// inTurn reports whether the head of s may be handed out: a strict stream
// does not overtake the other strict ones of its route, nor, on a route that
// is strict now, those that it left when it was ordered by lane. reading is
// held and s.ahead is not empty.
func (q *Queue) inTurn(s *stream) (bool, error) {
	if s.id.class != classStrict {
		return true, nil
	}
	q.mu.Lock()
	siblings := s.siblings[:len(s.siblings):len(s.siblings)]
	strict := q.policies[s.route].Order != ByLane
	q.mu.Unlock()
	for _, other := range siblings {
		if !strict && other.id.class != classStrict {
			continue
		}
		waiting, err := q.head(other)
		if err != nil {
			return false, err
		}
		if waiting && other.ahead[0].Seq < s.ahead[0].Seq {
			return false, nil
		}
	}
	return true, nil
}

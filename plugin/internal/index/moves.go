package index

// Held is the Slice held under a key, or nil, and whether its Service has
// another one with ready addresses of its family, to which an endpoint may move.
func (x *Index) Held(key ObjectKey) (s *Slice, siblings bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s = x.slicesByKey[key]
	if s == nil {
		return nil, false
	}
	e, _ := x.services.Load(ObjectKey{s.Namespace, s.Service})
	return s, int(e.slices.count[s.family().index()]) > s.Len()
}

// ChangeSlices adds or changes the Slices of the list, and takes others away, in
// one step.
func (x *Index) ChangeSlices(list []*Slice, gone []ObjectKey, resourceVersion uint64) {
	x.update(resourceVersion, func() {
		for _, s := range list {
			x.putSlice(s)
		}
		for _, key := range gone {
			x.takeSlice(key)
		}
		x.publishChanged()
	})
}

// Lost are the endpoints that next lacks.
func (s *Slice) Lost(next *Slice) []Endpoint {
	var lost []Endpoint
	at := 0
	for i := range s.Len() {
		e := s.endpoint(i)
		for at < next.Len() && next.endpoint(at).compare(e) < 0 {
			at++
		}
		if at == next.Len() || next.endpoint(at) != e {
			lost = append(lost, e)
		}
	}
	return lost
}

// With is the Slice with more endpoints, which must be of its family.
func (s *Slice) With(endpoints []Endpoint) *Slice {
	all := make([]Endpoint, 0, s.Len()+len(endpoints))
	for i := range s.Len() {
		all = append(all, s.endpoint(i))
	}
	more := NewSlice(s.ObjectKey, s.ResourceVersion, s.Service, s.Ports, append(all, endpoints...))
	more.Cluster = s.Cluster
	return more
}

func (s *Slice) endpoint(i int) Endpoint {
	e := Endpoint{Addr: s.Addr(i), Label: s.Label(i)}
	for _, z := range s.zones {
		if i < z.end {
			e.TopologyZone = z.name
			break
		}
	}
	return e
}

package index

import (
	"net/netip"
	"slices"
)

// Contents are all objects of an Index at one moment, in a form that can be
// written down: no field is hidden, and nothing is shared with the Index that
// ever changes.
type Contents struct {
	Serial     uint64
	Kinds      []Kind // that are held
	Services   []Service
	Slices     []SliceContents
	Namespaces []Namespace
	Pods       []Pod
}

// SliceContents are a Slice with everything in the open.
type SliceContents struct {
	ObjectKey
	ResourceVersion uint64
	Service         string
	Cluster         string
	Ports           []Port
	IPv6            bool
	Addrs           []byte   // 4 or 16 octets each
	Labels          []string // none, or one for each address
	Zones           []string // none, or one for each address
}

// Contents copies the objects. It holds up writers, not readers, while it
// collects pointers to them.
func (x *Index) Contents() Contents {
	x.mu.Lock()
	c := Contents{Serial: x.Serial()}
	for _, k := range Kinds {
		if x.Holds(k) {
			c.Kinds = append(c.Kinds, k)
		}
	}
	x.services.Range(func(_ ObjectKey, e *entry) bool {
		if e.service != nil {
			c.Services = append(c.Services, *e.service)
		}
		return true
	})
	x.namespaces.Range(func(_ string, n namespace) bool {
		if n.object != nil {
			c.Namespaces = append(c.Namespaces, *n.object)
		}
		return true
	})
	for _, p := range x.podsByKey {
		c.Pods = append(c.Pods, *p)
	}
	list := make([]*Slice, 0, len(x.slicesByKey))
	for _, s := range x.slicesByKey {
		list = append(list, s)
	}
	x.mu.Unlock()

	c.Slices = make([]SliceContents, len(list))
	for i, s := range list {
		c.Slices[i] = s.contents()
	}
	return c
}

func (s *Slice) contents() SliceContents {
	c := SliceContents{
		ObjectKey:       s.ObjectKey,
		ResourceVersion: s.ResourceVersion,
		Service:         s.Service,
		Cluster:         s.Cluster,
		Ports:           s.Ports,
		IPv6:            s.v6,
		Addrs:           s.addrs,
		Labels:          s.labels,
	}
	from := 0
	for _, z := range s.zones {
		c.Zones = append(c.Zones, slices.Repeat([]string{z.name}, z.end-from)...)
		from = z.end
	}
	return c
}

// slice is nil if the contents do not fit together.
func (c *SliceContents) slice() *Slice {
	size := 4
	if c.IPv6 {
		size = 16
	}
	n := len(c.Addrs) / size
	if len(c.Addrs)%size != 0 || (len(c.Labels) != 0 && len(c.Labels) != n) || (len(c.Zones) != 0 && len(c.Zones) != n) {
		return nil
	}
	endpoints := make([]Endpoint, n)
	for i := range endpoints {
		addr, _ := netip.AddrFromSlice(c.Addrs[i*size : (i+1)*size])
		endpoints[i].Addr = addr
		if len(c.Labels) > 0 {
			endpoints[i].Label = c.Labels[i]
		}
		if len(c.Zones) > 0 {
			endpoints[i].TopologyZone = c.Zones[i]
		}
	}
	s := NewSlice(c.ObjectKey, c.ResourceVersion, c.Service, c.Ports, endpoints)
	s.Cluster = c.Cluster
	return s
}

// Restore fills an empty Index. From then on it holds the kinds of the
// Contents, restored until a Replace brings the present. It reports whether the
// Contents fit together; if not, the Index stays empty.
func (x *Index) Restore(c Contents) bool {
	list := make([]*Slice, len(c.Slices))
	for i := range c.Slices {
		if list[i] = c.Slices[i].slice(); list[i] == nil {
			return false
		}
	}
	for _, k := range c.Kinds {
		switch k {
		case Services:
			x.ReplaceServices(pointers(c.Services), c.Serial)
		case EndpointSlices:
			x.ReplaceSlices(list, c.Serial)
		case Namespaces:
			x.ReplaceNamespaces(pointers(c.Namespaces), c.Serial)
		case Pods:
			x.ReplacePods(pointers(c.Pods), c.Serial)
		}
	}
	return true
}

func pointers[T any](list []T) []*T {
	p := make([]*T, len(list))
	for i := range list {
		p[i] = &list[i]
	}
	return p
}

// Versions are the resource versions of the objects of a kind, hidden ones
// included. It holds up writers, not readers.
func (x *Index) Versions(k Kind) map[ObjectKey]uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	versions := make(map[ObjectKey]uint64, x.Count(k))
	switch k {
	case Services:
		x.services.Range(func(key ObjectKey, e *entry) bool {
			if e.service != nil {
				versions[key] = e.service.ResourceVersion
			}
			return true
		})
	case EndpointSlices:
		for key, s := range x.slicesByKey {
			versions[key] = s.ResourceVersion
		}
	case Namespaces:
		x.namespaces.Range(func(name string, n namespace) bool {
			if n.object != nil {
				versions[ObjectKey{Name: name}] = n.object.ResourceVersion
			}
			return true
		})
	case Pods:
		for key, p := range x.podsByKey {
			versions[key] = p.ResourceVersion
		}
	}
	return versions
}

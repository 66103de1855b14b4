// Package population describes the made-up clusters that the benchmark serves: which services there are, which
// endpoints and pods they have, and so which names and addresses. Everybody who makes the same population by its name
// gets the same objects.
package population

import (
	"fmt"
	"net/netip"
	"strings"
)

// Domain is the cluster domain of every population.
const Domain = "cluster.local."

const (
	namespaces   = 50  // that ordinary services are spread over
	headlessEach = 10  // every tenth ordinary service is headless
	podsPerNode  = 30  // as in the 5,000-node scale tests of Kubernetes
	perSlice     = 100 // endpoints, the default of the EndpointSlice controller
)

// A Population is a cluster's objects. It never changes.
type Population struct {
	Services []Service
	Slices   []Slice
	Pods     int // one for each endpoint
}

// A Service has the endpoints First to First+Count-1 of its Population.
type Service struct {
	Namespace, Name string
	ClusterIP       netip.Addr // not valid for a headless one
	Hostnames       bool       // its pods have the hostnames pod-0, pod-1 and so on
	First, Count    int
}

// A Slice holds the endpoints First to First+Count-1, which are of the Service with this number.
type Slice struct {
	Service, First, Count int
}

// The services that every population has.
const (
	Headless20   = "headless-20"   // 20 endpoints without hostnames
	Headless5000 = "headless-5000" // 5,000 pods with hostnames
	special      = "bench"         // the namespace that they are in
)

// Huge is the service of 20,000 endpoints in slices of 20 that the population "churn" has.
const Huge = "headless-20000"

// Wide is the service of 1,000 slices that the populations "wide" and "widest" have.
const Wide = "headless-wide"

// New makes a population by its name:
//
//	a      2,000 services, 15,000 endpoints
//	b      20,000 services, 240,000 endpoints
//	c      5,000 services, 150,000 endpoints, on 5,000 nodes
//	churn  one service of 20,000 endpoints in 1,000 slices, and 200 small ones
//	wide   one service of 100,000 endpoints in 1,000 slices, and 200 small ones
//	widest the same with 1,000,000 endpoints, as many as Kubernetes puts in 1,000 slices
func New(name string) (*Population, error) {
	p := new(Population)
	switch name {
	case "a":
		p.addSpecial()
		p.addOrdinary(2_000, 15_000)
	case "b":
		p.addSpecial()
		p.addOrdinary(20_000, 240_000)
	case "c":
		p.addSpecial()
		p.addOrdinary(5_000, 150_000)
	case "churn":
		const small = 20 // endpoints
		p.add(Service{Namespace: special, Name: Huge, Count: 20_000}, small)
		p.addOrdinary(200, 20_000+200*small)
	case "wide":
		p.addWide(100)
	case "widest":
		p.addWide(1000)
	default:
		return nil, fmt.Errorf("population %q: want a, b, c, churn, wide or widest", name)
	}
	return p, nil
}

func (p *Population) addSpecial() {
	p.add(Service{Namespace: special, Name: Headless20, Count: 20}, perSlice)
	p.add(Service{Namespace: special, Name: Headless5000, Hostnames: true, Count: 5000}, perSlice)
}

func (p *Population) addWide(perSlice int) {
	const slices, small = 1000, 20
	p.add(Service{Namespace: special, Name: Wide, Count: slices * perSlice}, perSlice)
	p.addOrdinary(200, slices*perSlice+200*small)
}

// addOrdinary fills up to so many services and endpoints, which the new services share evenly.
func (p *Population) addOrdinary(services, endpoints int) {
	total := services - len(p.Services)
	left := endpoints - p.Pods
	for i := range total {
		s := Service{Namespace: fmt.Sprintf("team-%d", i%namespaces), Name: fmt.Sprintf("service-%d", i)}
		s.Count = (left*(i+1))/total - (left*i)/total
		if i%headlessEach != 0 {
			s.ClusterIP = address(10, 96, uint32(i+256))
		}
		p.add(s, perSlice)
	}
}

func (p *Population) add(s Service, perSlice int) {
	s.First = p.Pods
	for done := 0; done < s.Count; done += perSlice {
		p.Slices = append(p.Slices, Slice{len(p.Services), s.First + done, min(perSlice, s.Count-done)})
	}
	p.Services = append(p.Services, s)
	p.Pods += s.Count
}

// Headless tells whether the service has no address of its own.
func (s *Service) Headless() bool { return !s.ClusterIP.IsValid() }

// FQDN is the service's name in the DNS.
func (s *Service) FQDN() string {
	return s.Name + "." + s.Namespace + ".svc." + Domain
}

// Find is the service with this name, and its number.
func (p *Population) Find(name string) (*Service, int) {
	for i := range p.Services {
		if p.Services[i].Name == name {
			return &p.Services[i], i
		}
	}
	return nil, -1
}

// Namespaces are those that services are in, and the ones that every cluster has.
func (p *Population) Namespaces() []string {
	list := []string{"default", "kube-system", special}
	for i := range namespaces {
		list = append(list, fmt.Sprintf("team-%d", i))
	}
	return list
}

// Hostname is that of an endpoint of the service, "" if it has none.
func (s *Service) Hostname(endpoint int) string {
	if !s.Hostnames {
		return ""
	}
	return fmt.Sprintf("pod-%d", endpoint-s.First)
}

// EndpointFQDN is the name of an endpoint that has this address.
func (s *Service) EndpointFQDN(endpoint int, a netip.Addr) string {
	label := s.Hostname(endpoint)
	if label == "" {
		label = strings.ReplaceAll(a.String(), ".", "-")
	}
	return label + "." + s.FQDN()
}

// Addr is the address that an endpoint has at first.
func Addr(endpoint int) netip.Addr { return address(10, 128, uint32(endpoint+256)) }

// ChangedAddr is the address that the n-th change gives to an endpoint: no other change gives it, nor is it the first
// of any endpoint.
func ChangedAddr(n int) netip.Addr { return address(100, 64, uint32(n)&(1<<22-1)) }

// address is the one at an offset from a.b.0.0.
func address(a, b byte, offset uint32) netip.Addr {
	n := uint32(a)<<24 + uint32(b)<<16 + offset
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// ReverseName is the name that a PTR query for the address asks for.
func ReverseName(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", b[3], b[2], b[1], b[0])
}

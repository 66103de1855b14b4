package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kubezone/kubezone/e2e/bench/population"
)

// A side is a DNS server that takes part.
type side struct {
	name       string
	binary     string // a CoreDNS; "" for Knot
	directives string // that its Corefile has and others have not
}

const (
	stockName = "CoreDNS 1.15.0"
	oursName  = "kubezone"
	batchName = "kubezone, udpbatch"
	knotName  = "Knot"
)

// sides are all there are; the first is the one that others are compared with.
func (b *bench) sides() []side {
	list := []side{
		{name: stockName, binary: b.stock},
		{name: oursName, binary: b.program("coredns")},
	}
	if b.hasPlugin("udpbatch") {
		list = append(list, side{name: batchName, binary: b.program("coredns"), directives: "udpbatch\n"})
	}
	return append(list, side{name: knotName})
}

// clusterSides are the sides that follow an API server.
func (b *bench) clusterSides() []side {
	var list []side
	for _, s := range b.sides() {
		if s.binary != "" && s.directives == "" {
			list = append(list, s)
		}
	}
	return list
}

// hasPlugin tells whether our CoreDNS has the plugin.
func (b *bench) hasPlugin(name string) bool {
	output, err := exec.Command(b.program("coredns"), "-plugins").Output()
	return err == nil && slices.Contains(strings.Fields(string(output)), name)
}

// A server is a side that runs.
type server struct {
	*process
	side    side
	dns     string // address
	metrics string // base URLs
	pprof   string
}

// corefile is the same text for everybody, but for addresses and the side's own directives.
const corefile = `.:%s {
    bind 127.0.0.1
    errors
    prometheus %s
%s    loadbalance
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        endpoint %s
%s    }
}
`

// start starts a side that follows the feed.
func (b *bench) start(s side, f *feed, options string, withPprof bool) (*server, error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	return b.startAt(s, f, nil, ports, options, withPprof)
}

// startAt starts a side with given ports, for DNS, metrics and pprof.
func (b *bench) startAt(s side, f *feed, in *netns, ports []string, options string, withPprof bool) (*server, error) {
	if s.binary == "" {
		return b.startKnot(s, ports[0])
	}
	srv := &server{
		side: s, dns: net.JoinHostPort("127.0.0.1", ports[0]),
		metrics: "http://127.0.0.1:" + ports[1], pprof: "http://127.0.0.1:" + ports[2],
	}
	var directives strings.Builder
	if withPprof {
		fmt.Fprintf(&directives, "    pprof 127.0.0.1:%s\n", ports[2])
	}
	if s.directives != "" {
		directives.WriteString("    " + s.directives)
	}
	text := fmt.Sprintf(corefile, ports[0], "127.0.0.1:"+ports[1], directives.String(), f.api, options)
	name := b.unique("server")
	path := filepath.Join(b.dir, name+".Corefile")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return nil, err
	}
	var err error
	srv.process, err = startProcess(b.dir, name, in.command(s.binary, "-conf", path))
	return srv, err
}

// startKnot starts Knot with a zone of the names that population a has.
func (b *bench) startKnot(s side, port string) (*server, error) {
	dir := filepath.Join(b.dir, b.unique("knot"))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	p, err := population.New(queryPopulation)
	if err != nil {
		return nil, err
	}
	if err := p.WriteZones(dir); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`server:
    listen: 127.0.0.1@%s
    rundir: %[2]s
    udp-workers: 2
    tcp-workers: 2
database:
    storage: %[2]s
template:
  - id: default
    storage: %[2]s
    zonefile-load: whole
    zonefile-sync: -1
    journal-content: none
zone:
  - domain: cluster.local
    file: cluster.local.zone
  - domain: in-addr.arpa
    file: in-addr.arpa.zone
`, port, dir)
	path := filepath.Join(dir, "knot.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	knotd, err := lookPath("knotd")
	if err != nil {
		return nil, err
	}
	srv := &server{side: s, dns: net.JoinHostPort("127.0.0.1", port)}
	if srv.process, err = startProcess(b.dir, b.unique("knotd"), exec.Command(knotd, "-c", path)); err != nil {
		return nil, err
	}
	return srv, nil
}

// lookPath also looks where Debian keeps servers, which is not in an ordinary user's PATH.
func lookPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/" + name)
}

// freePorts are ports of the loopback interface that nobody had just now, for UDP or TCP.
func freePorts(n int) ([]string, error) {
	var ports []string
	for len(ports) < n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // held until all are found, so that they differ
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		packets, err := net.ListenPacket("udp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		defer packets.Close()
		ports = append(ports, port)
	}
	return ports, nil
}

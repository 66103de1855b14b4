package population

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const zoneHead = `$TTL 5
@ IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
@ IN NS ns.dns.cluster.local.
`

// WriteZones writes the population as master files (RFC 1035 section 5), cluster.local.zone and in-addr.arpa.zone, with
// the names that the Kubernetes DNS specification gives it.
func (p *Population) WriteZones(dir string) error {
	if err := writeFile(filepath.Join(dir, "cluster.local.zone"), p.writeForward); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "in-addr.arpa.zone"), p.writeReverse)
}

func writeFile(path string, write func(io.Writer)) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	write(out)
	if err := out.Flush(); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

func (p *Population) writeForward(w io.Writer) {
	fmt.Fprintf(w, "$ORIGIN %s\n%sns.dns A 10.96.0.10\n", Domain, zoneHead)
	for i := range p.Services {
		s := &p.Services[i]
		if !s.Headless() {
			fmt.Fprintf(w, "%s A %s\n", s.FQDN(), s.ClusterIP)
			fmt.Fprintf(w, "_http._tcp.%s SRV 0 100 80 %[1]s\n", s.FQDN())
		}
		for e := s.First; e < s.First+s.Count; e++ {
			name := s.EndpointFQDN(e, Addr(e))
			fmt.Fprintf(w, "%s A %s\n", name, Addr(e))
			if s.Headless() {
				fmt.Fprintf(w, "%s A %s\n", s.FQDN(), Addr(e))
				fmt.Fprintf(w, "_http._tcp.%s SRV 0 %d 8080 %s\n", s.FQDN(), max(1, 100/s.Count), name)
			}
		}
	}
}

func (p *Population) writeReverse(w io.Writer) {
	fmt.Fprintf(w, "$ORIGIN in-addr.arpa.\n%s", zoneHead)
	for i := range p.Services {
		s := &p.Services[i]
		if !s.Headless() {
			fmt.Fprintf(w, "%s PTR %s\n", ReverseName(s.ClusterIP), s.FQDN())
		}
		for e := s.First; e < s.First+s.Count; e++ {
			fmt.Fprintf(w, "%s PTR %s\n", ReverseName(Addr(e)), s.EndpointFQDN(e, Addr(e)))
		}
	}
}

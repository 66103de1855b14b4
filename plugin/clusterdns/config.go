package clusterdns

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/plugin/internal/corefile"
	"github.com/kubezone/kubezone/plugin/internal/kube"
)

const (
	directive = "clusterdns"

	// The Service of the cluster's DNS has this name whatever serves it.
	defaultNamespace = "kube-system"
	defaultService   = "kube-dns"

	dnsPort = 53
)

// A config is one directive of a Corefile with its block, checked.
type config struct {
	zones      []string
	namespace  string // of the Service whose endpoints are asked
	service    string
	kubeconfig string
	context    string
	// headless is the name of a Service whose A and AAAA records are the
	// servers, "" for none.
	headless string
	// to are servers that are asked while no others are known.
	to []netip.AddrPort
	// maxConcurrent bounds the queries that wait for an answer.
	maxConcurrent int
}

// defaultConcurrent queries wait at a time: 25 KiB of goroutine and message each
// make 50 MiB.
const defaultConcurrent = 2000

type (
	parser = corefile.Parser[config]
	option = corefile.Option[config]
)

// options are all properties, in the order of README.md.
var options = []option{
	{Name: "service", Usage: "NAMESPACE/NAME", Min: 1, Max: 1, Set: setService},
	{Name: "kubeconfig", Usage: "FILE [CONTEXT]", Min: 1, Max: 2, Set: setKubeconfig},
	{Name: "headless", Usage: "NAME", Min: 1, Max: 1, Set: setHeadless},
	{Name: "to", Usage: "ADDRESS[:PORT]...", Min: 1, Max: corefile.Many, Set: setTo},
	{Name: "max_concurrent", Usage: "N", Min: 1, Max: 1, Set: corefile.Whole(func(c *config) *int { return &c.maxConcurrent }, 1, 1<<20)},
}

// parse reads the directive that c stands at. An error names the file, the line,
// the text that is wrong and what is wanted.
func parse(c *caddy.Controller) (config, error) {
	p, err := corefile.Parse(c, config{namespace: defaultNamespace, service: defaultService, maxConcurrent: defaultConcurrent}, options)
	if err != nil {
		return config{}, err
	}
	cfg := p.Config
	cfg.zones = p.Zones
	if cfg.headless != "" && len(cfg.to) == 0 {
		return config{}, p.At("headless").Errorf("headless %s: nobody to ask for it; want a server with to ADDRESS", cfg.headless)
	}
	return cfg, nil
}

func setService(p *parser, args []string) error {
	namespace, name, ok := strings.Cut(args[0], "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("%q: want NAMESPACE/NAME, such as %s/%s", args[0], defaultNamespace, defaultService)
	}
	p.Config.namespace, p.Config.service = namespace, name
	return nil
}

func setKubeconfig(p *parser, args []string) error {
	p.Config.kubeconfig = args[0]
	if len(args) > 1 {
		p.Config.context = args[1]
	}
	return nil
}

func setHeadless(p *parser, args []string) error {
	if _, ok := dns.IsDomainName(args[0]); !ok {
		return fmt.Errorf("%q: want the domain name of a headless Service", args[0])
	}
	p.Config.headless = strings.ToLower(dns.Fqdn(args[0]))
	return nil
}

func setTo(p *parser, args []string) error {
	for _, arg := range args {
		to, err := corefile.AddrPort(arg, dnsPort)
		if err != nil {
			return err
		}
		p.Config.to = append(p.Config.to, to)
	}
	return nil
}

// kube is how to reach the API server.
func (c config) kube() kube.Config { return kube.Config{Kubeconfig: c.kubeconfig, Context: c.context} }

// silence is how long a server may take for an answer before another one is
// asked.
const silence = 1500 * time.Millisecond

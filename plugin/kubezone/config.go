package kubezone

import (
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/kubezone/kubezone/plugin/internal/corefile"
	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/kubezone/kubezone/plugin/internal/kube"
	"github.com/kubezone/kubezone/plugin/internal/respond"
	"github.com/kubezone/kubezone/plugin/internal/schema"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	defaultTTL            = 5               // seconds; the stock plugin's
	maxTTL                = 3600            // seconds; the stock plugin's
	maxDefaultNegativeTTL = 5               // seconds; a Service made just after a miss must soon resolve
	defaultStartupTimeout = 5 * time.Second // the stock plugin's

	defaultSnapshotInterval = 30 * time.Second // what a crash may lose; a large cluster takes some 0.1 s to write
	defaultSelfCheck        = 5 * time.Minute  // a lost watch window heals within minutes, at a cost that README.md states
	defaultMaxStale         = 24 * time.Hour   // a day-old address may be another's, but most are still right
)

// A config is one directive of a Corefile with its block, checked. Names in it
// are in lower case, zones are fully qualified, and what the Corefile leaves
// out has its default. The zero value is of no use; parse makes one.
type config struct {
	zones   []string
	primary string // the forward zone that names in rdata, such as PTR targets, are in

	// Where objects come from: files if manifests is not empty, else the API
	// server of a kubeconfig file, or at endpoint, or the one that the pod
	// this process runs in belongs to.
	manifests     []string
	kubeconfig    string
	context       string // "" for the kubeconfig's current context
	endpoint      string // "" if kubeconfig is set
	cert, key, ca string // file names; "" if endpoint is ""

	// Limits on requests to the API server; 0 leaves them to client-go.
	qps                float32
	burst, maxInflight int

	// What of the cluster is visible; everything if empty. At most one of
	// namespaces (sorted) and namespaceLabels is set. The label selectors are
	// in the form that the API server takes.
	namespaces      []string
	denied          index.Denial
	namespaceLabels string
	labels          string

	pods             podMode
	podRanges        []netip.Prefix // any address if empty
	endpointPodNames bool
	endpoints        endpointsMode
	noendpoints      bool
	zonal            bool
	multicluster     []string // a subset of zones

	ttl               uint32 // seconds
	negativeTTL       uint32 // seconds
	fall              fall.F
	reverseRanges     []netip.Prefix // whose reverse names never fall through
	ignoreEmpty       bool
	explain           respond.Explain
	ptr               ptrMode
	externalNameRcode respond.AliasCode
	startupTimeout    time.Duration
	snapshot          kube.Snapshot // no file by default
	noBrake           bool
	selfCheck         time.Duration // 0 for none

	external bool // another directive serves the external addresses of Services
	metadata bool // the metadata plugin publishes what is known of clients

	at       corefile.Place // where the directive stands
	sourceAt corefile.Place // where the option stands that names the source, or else the directive

	// What the Corefile says without effect, where the stock plugin takes it
	// in silence. Each text names its file and line; the caller logs them.
	warnings []string
}

// A podMode says which names of the form a-b-c-d.ns.pod exist.
type podMode uint8

const (
	podsDisabled podMode = iota // none
	podsInsecure                // every well-formed address in an existing namespace
	podsVerified                // addresses of pods in that namespace
)

// An endpointsMode says of which Services endpoints are watched and have names.
type endpointsMode uint8

const (
	endpointsAll      endpointsMode = iota // all
	endpointsHeadless                      // headless ones
)

// A ptrMode says how many PTR records an address with several names has.
type ptrMode uint8

const (
	ptrAll   ptrMode = iota // one for each name
	ptrFirst                // one
)

// parse reads the directive that c stands at, with its block. It starts
// nothing and reads no file. An error names the file, the line, the text that
// is wrong and what is accepted.
func parse(c *caddy.Controller) (config, error) {
	p, err := corefile.Parse(c, config{ttl: defaultTTL, fall: fall.Zero, startupTimeout: defaultStartupTimeout, selfCheck: defaultSelfCheck}, options)
	if err != nil {
		return config{}, err
	}
	for _, check := range []func(*parser) error{checkZones, checkSource, checkSnapshot, checkSelection, checkDenied, checkPods, checkEndpoints} {
		if err := check(p); err != nil {
			return config{}, err
		}
	}
	p.CheckFall(p.Config.fall.Zones)
	if len(p.Config.fall.Zones) == 0 {
		ignore(p, "reverse_ranges", "nothing falls through")
	}
	if !p.Has("negative_ttl") {
		p.Config.negativeTTL = min(p.Config.ttl, maxDefaultNegativeTTL)
	}
	p.Config.at, p.Config.sourceAt, p.Config.warnings = p.Start, sourceAt(p), p.Warnings
	return p.Config, nil
}

func sourceAt(p *parser) corefile.Place {
	for _, name := range []string{"manifests", "kubeconfig", "endpoint"} {
		if p.Has(name) {
			return p.At(name)
		}
	}
	return p.Start
}

type (
	parser = corefile.Parser[config]
	option = corefile.Option[config]
)

// options are all properties, in the order of README.md.
var options = []option{
	{Name: "manifests", Usage: "PATH...", Min: 1, Max: corefile.Many, Set: setManifests},
	{Name: "endpoint", Usage: "URL", Min: 1, Max: corefile.Many, Set: setEndpoint},
	{Name: "tls", Usage: "CERT KEY CACERT", Min: 3, Max: 3, Set: setTLS},
	{Name: "kubeconfig", Usage: "FILE [CONTEXT]", Min: 1, Max: 2, Set: setKubeconfig},
	{Name: "apiserver_qps", Usage: "QPS", Min: 1, Max: 1, Set: setQPS},
	{Name: "apiserver_burst", Usage: "BURST", Min: 1, Max: 1, Set: corefile.Whole(func(c *config) *int { return &c.burst }, 0, math.MaxInt32)},
	{Name: "apiserver_max_inflight", Usage: "MAX", Min: 1, Max: 1, Set: corefile.Whole(func(c *config) *int { return &c.maxInflight }, 0, math.MaxInt32)},
	{Name: "namespaces", Usage: "NAMESPACE...", Min: 1, Max: corefile.Many, Set: setNamespaces},
	{Name: "deny_namespaces", Usage: "public_suffixes|[!]NAMESPACE...", Min: 1, Max: corefile.Many, Set: setDenied},
	{Name: "namespace_labels", Usage: "EXPRESSION", Min: 1, Max: corefile.Many, Set: selector(func(c *config) *string { return &c.namespaceLabels })},
	{Name: "labels", Usage: "EXPRESSION", Min: 1, Max: corefile.Many, Set: selector(func(c *config) *string { return &c.labels })},
	{Name: "pods", Usage: "disabled|insecure|verified", Min: 1, Max: 1, Set: corefile.OneOf(func(c *config) *podMode { return &c.pods },
		corefile.Word("disabled", podsDisabled), corefile.Word("insecure", podsInsecure), corefile.Word("verified", podsVerified))},
	{Name: "pod_ranges", Usage: "private|CIDR...", Min: 1, Max: corefile.Many, Set: ranges(func(c *config) *[]netip.Prefix { return &c.podRanges }, schema.PrivateSpace)},
	{Name: "endpoint_pod_names", Set: corefile.Flag(func(c *config) *bool { return &c.endpointPodNames })},
	{Name: "endpoints", Usage: "all|headless", Min: 1, Max: 1, Set: corefile.OneOf(func(c *config) *endpointsMode { return &c.endpoints },
		corefile.Word("all", endpointsAll), corefile.Word("headless", endpointsHeadless))},
	{Name: "noendpoints", Set: corefile.Flag(func(c *config) *bool { return &c.noendpoints })},
	{Name: "zonal", Set: corefile.Flag(func(c *config) *bool { return &c.zonal })},
	{Name: "multicluster", Usage: "[ZONES...]", Max: corefile.Many, Set: setMulticluster},
	{Name: "ttl", Usage: "SECONDS", Min: 1, Max: 1, Set: corefile.Whole(func(c *config) *uint32 { return &c.ttl }, 0, maxTTL)},
	{Name: "negative_ttl", Usage: "SECONDS", Min: 1, Max: 1, Set: corefile.Whole(func(c *config) *uint32 { return &c.negativeTTL }, 0, maxTTL)},
	{Name: "fallthrough", Usage: "[ZONES...]", Max: corefile.Many, Set: corefile.Fall(func(c *config) *fall.F { return &c.fall })},
	{Name: "reverse_ranges", Usage: "private|CIDR...", Min: 1, Max: corefile.Many, Set: ranges(func(c *config) *[]netip.Prefix { return &c.reverseRanges }, respond.ClusterSpace)},
	{Name: "ignore", Usage: "empty_service", Min: 1, Max: 1, Set: corefile.OneOf(func(c *config) *bool { return &c.ignoreEmpty }, corefile.Word("empty_service", true))},
	{Name: "ptr", Usage: "all|first", Min: 1, Max: 1, Set: corefile.OneOf(func(c *config) *ptrMode { return &c.ptr },
		corefile.Word("all", ptrAll), corefile.Word("first", ptrFirst))},
	{Name: "externalname_rcode", Usage: "target|noerror", Min: 1, Max: 1, Set: corefile.OneOf(func(c *config) *respond.AliasCode { return &c.externalNameRcode },
		corefile.Word("target", respond.TargetCode), corefile.Word("noerror", respond.NoErrorCode))},
	{Name: "explain", Usage: "reason|off", Min: 1, Max: 1, Set: corefile.OneOf(func(c *config) *respond.Explain { return &c.explain },
		corefile.Word("reason", respond.ExplainReason), corefile.Word("off", respond.ExplainOff))},
	{Name: "snapshot", Usage: "FILE [INTERVAL]", Min: 1, Max: 2, Set: setSnapshot},
	{Name: "max_stale", Usage: "DURATION", Min: 1, Max: 1, Set: setMaxStale},
	{Name: "brake", Usage: "on|off", Min: 1, Max: 1, Set: corefile.OneOf(func(c *config) *bool { return &c.noBrake },
		corefile.Word("on", false), corefile.Word("off", true))},
	{Name: "selfcheck", Usage: "INTERVAL|off", Min: 1, Max: 1, Set: setSelfCheck},
	{Name: "startup_timeout", Usage: "DURATION", Min: 1, Max: 1, Set: setStartupTimeout},
}

func setManifests(p *parser, paths []string) error {
	for _, path := range paths {
		p.Config.manifests = append(p.Config.manifests, underRoot(p, path))
	}
	return nil
}

// underRoot follows the root plugin, which may not be there.
func underRoot(p *parser, path string) string {
	if root := dnsserver.GetConfig(p.Controller).Root; root != "" && !filepath.IsAbs(path) {
		return filepath.Join(root, path)
	}
	return path
}

func setEndpoint(p *parser, urls []string) error {
	if len(urls) > 1 {
		p.Warn("endpoint", "only the first of %d API servers is used: %s", len(urls), urls[0])
	}
	if !isServer(urls[0]) {
		return fmt.Errorf("%q: want a URL or HOST:PORT", urls[0])
	}
	p.Config.endpoint = urls[0]
	return nil
}

// isServer tells whether client-go would take s for an API server: a URL, or a
// host and a port without scheme and path.
func isServer(s string) bool {
	if u, err := url.Parse(s); err == nil && u.Scheme != "" && u.Host != "" {
		return u.Scheme == "http" || u.Scheme == "https"
	}
	u, err := url.Parse("https://" + s)
	return err == nil && u.Host != "" && (u.Path == "" || u.Path == "/")
}

func setTLS(p *parser, files []string) error {
	p.Config.cert, p.Config.key, p.Config.ca = files[0], files[1], files[2]
	return nil
}

func setKubeconfig(p *parser, args []string) error {
	p.Config.kubeconfig = args[0]
	if len(args) > 1 {
		p.Config.context = args[1]
	}
	return nil
}

func setQPS(p *parser, args []string) error {
	qps, err := strconv.ParseFloat(args[0], 32)
	if err != nil || !(qps >= 0) || math.IsInf(qps, 0) { // !(NaN >= 0)
		return fmt.Errorf("%q: want a number of requests a second, 0 or more", args[0])
	}
	p.Config.qps = float32(qps)
	return nil
}

func setNamespaces(p *parser, names []string) error {
	for _, name := range names {
		namespace := strings.ToLower(name)
		if validation.IsDNS1123Label(namespace) != nil {
			return fmt.Errorf("%q: want names of namespaces, separated by spaces", name)
		}
		p.Config.namespaces = append(p.Config.namespaces, namespace)
	}
	slices.Sort(p.Config.namespaces)
	p.Config.namespaces = slices.Compact(p.Config.namespaces)
	return nil
}

// publicSuffixes stands for all namespaces whose names are public suffixes; as
// it holds an underscore, it is not the name of one.
const publicSuffixes = "public_suffixes"

func setDenied(p *parser, args []string) error {
	d := &p.Config.denied
	for _, arg := range args {
		if arg == publicSuffixes {
			d.PublicSuffixes = true
			continue
		}
		name, except := strings.CutPrefix(strings.ToLower(arg), "!")
		if validation.IsDNS1123Label(name) != nil {
			return fmt.Errorf("%q: want names of namespaces, %s, or ! and the name of a namespace", arg, publicSuffixes)
		}
		switch {
		case !except:
			d.Names = append(d.Names, name)
		case !index.IsPublicSuffix(name):
			return fmt.Errorf("%q: not a public suffix, so it is not denied", arg)
		default:
			d.Except = append(d.Except, name)
		}
	}
	return nil
}

// ranges sets an option to networks, for some of which there is a word.
func ranges(field func(*config) *[]netip.Prefix, private []netip.Prefix) func(*parser, []string) error {
	return func(p *parser, args []string) error {
		for _, arg := range args {
			if arg == "private" {
				*field(&p.Config) = append(*field(&p.Config), private...)
				continue
			}
			network, err := corefile.Network(arg)
			if err != nil {
				return fmt.Errorf("%w, or private", err)
			}
			*field(&p.Config) = append(*field(&p.Config), network)
		}
		return nil
	}
}

func setMulticluster(p *parser, args []string) (err error) {
	if len(args) == 0 {
		p.Warn("multicluster", "no zone is given, so none is a multicluster zone")
	}
	p.Config.multicluster, err = corefile.ZoneNames(args)
	return err
}

func setStartupTimeout(p *parser, args []string) error {
	d, err := time.ParseDuration(args[0])
	if err != nil || d < 0 {
		return fmt.Errorf("%q: want a duration, 0 or more, such as 5s", args[0])
	}
	p.Config.startupTimeout = d
	return nil
}

func setSnapshot(p *parser, args []string) error {
	p.Config.snapshot.File = underRoot(p, args[0])
	p.Config.snapshot.Interval = defaultSnapshotInterval
	if len(args) > 1 {
		d, err := time.ParseDuration(args[1])
		if err != nil || d < time.Second {
			return fmt.Errorf("%q: want a duration, 1s or more, such as 30s", args[1])
		}
		p.Config.snapshot.Interval = d
	}
	return nil
}

func setSelfCheck(p *parser, args []string) error {
	if args[0] == "off" {
		p.Config.selfCheck = 0
		return nil
	}
	d, err := time.ParseDuration(args[0])
	if err != nil || d < time.Second {
		return fmt.Errorf("%q: want a duration, 1s or more, such as 5m, or off", args[0])
	}
	p.Config.selfCheck = d
	return nil
}

func setMaxStale(p *parser, args []string) error {
	d, err := time.ParseDuration(args[0])
	if err != nil || d <= 0 {
		return fmt.Errorf("%q: want a duration of more than 0, such as 24h", args[0])
	}
	p.Config.snapshot.MaxStale = d
	return nil
}

// selector sets an option to a label selector, which may hold spaces and so
// come as several arguments.
func selector(field func(*config) *string) func(*parser, []string) error {
	return func(p *parser, args []string) error {
		text := strings.Join(args, " ")
		// Not labels.Parse, which takes < and > too: the API server and the
		// stock plugin refuse these.
		parsed, err := metav1.ParseToLabelSelector(text)
		if err != nil {
			return fmt.Errorf("%q: want a label selector: %w", text, err)
		}
		s, err := metav1.LabelSelectorAsSelector(parsed)
		if err != nil {
			return fmt.Errorf("%q: want a label selector: %w", text, err)
		}
		*field(&p.Config) = s.String()
		return nil
	}
}

func checkZones(p *parser) error {
	primary, err := p.Primary()
	if err != nil {
		return err
	}
	p.Config.zones, p.Config.primary = p.Zones, primary
	for _, zone := range p.Config.multicluster {
		if !slices.Contains(p.Zones, zone) {
			return p.At("multicluster").Errorf("multicluster %q: want one of the directive's own zones, %v", zone, p.Zones)
		}
	}
	return nil
}

// checkSource decides between several sources, as the stock plugin does:
// kubeconfig, then endpoint, then in-cluster. It never had manifests, so there
// is no habit to respect: these exclude any API server.
func checkSource(p *parser) error {
	for _, name := range []string{"kubeconfig", "endpoint", "tls", "apiserver_qps", "apiserver_burst", "apiserver_max_inflight", "snapshot", "max_stale", "brake", "selfcheck", "endpoints"} {
		if p.Has("manifests") && p.Has(name) {
			return p.At(name).Errorf("%s: not together with manifests at %s, which needs no API server", name, p.At("manifests"))
		}
	}
	switch {
	case p.Has("kubeconfig"):
		ignore(p, "endpoint", "kubeconfig is set")
		ignore(p, "tls", "kubeconfig is set")
		p.Config.endpoint, p.Config.cert, p.Config.key, p.Config.ca = "", "", "", ""
	case !p.Has("endpoint"):
		ignore(p, "tls", "endpoint is not set")
		p.Config.cert, p.Config.key, p.Config.ca = "", "", ""
	}
	return nil
}

func checkSnapshot(p *parser) error {
	if p.Has("max_stale") && !p.Has("snapshot") {
		return p.At("max_stale").Errorf("max_stale: only together with snapshot, whose age it limits")
	}
	if p.Has("snapshot") && !p.Has("max_stale") {
		p.Config.snapshot.MaxStale = defaultMaxStale
	}
	return nil
}

func checkSelection(p *parser) error {
	if p.Has("namespaces") && p.Has("namespace_labels") {
		return p.At("namespace_labels").Errorf("namespace_labels: not together with namespaces at %s; want one of them", p.At("namespaces"))
	}
	return nil
}

func checkDenied(p *parser) error {
	d := p.Config.denied
	if len(d.Except) > 0 && !d.PublicSuffixes {
		return p.At("deny_namespaces").Errorf("deny_namespaces %q: only together with %s, from which it is taken out", "!"+d.Except[0], publicSuffixes)
	}
	for _, namespace := range p.Config.namespaces {
		if d.Denies(namespace) {
			return p.At("namespaces").Errorf("namespaces %q: denied by deny_namespaces at %s; want it in one of them", namespace, p.At("deny_namespaces"))
		}
	}
	return nil
}

func checkPods(p *parser) error {
	if p.Config.pods == podsDisabled {
		ignore(p, "pod_ranges", "pods is disabled")
	}
	return nil
}

// checkEndpoints refuses what needs endpoints that are not watched. What the
// stock plugin takes stays allowed; it has no option endpoints.
func checkEndpoints(p *parser) error {
	for _, name := range []string{"endpoint_pod_names", "noendpoints", "ignore"} {
		if p.Config.endpoints == endpointsHeadless && p.Has(name) {
			return p.At("endpoints").Errorf("endpoints headless: not together with %s at %s, %s", name, p.At(name), headlessExcludes[name])
		}
	}
	if !p.Config.noendpoints {
		return nil
	}
	if p.Config.zonal {
		return p.At("zonal").Errorf("zonal: not together with noendpoints at %s, since zonal names are names of endpoints", p.At("noendpoints"))
	}
	ignore(p, "endpoint_pod_names", "noendpoints is set")
	return nil
}

// headlessExcludes tells why options do not go with endpoints headless.
var headlessExcludes = map[string]string{
	"endpoint_pod_names": "which names endpoints of all services",
	"noendpoints":        "which watches no endpoints at all",
	"ignore":             "which needs the endpoints of all services",
}

// ignore warns that an option, if it is given, does nothing.
func ignore(p *parser, name, why string) {
	if p.Has(name) {
		p.Warn(name, "ignored, since %s", why)
	}
}

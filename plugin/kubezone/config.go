package kubezone

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/fall"
	pkgparse "github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/kubezone/kubezone/plugin/internal/respond"
	"github.com/kubezone/kubezone/plugin/internal/schema"

	"github.com/miekg/dns"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	defaultTTL            = 5               // seconds; the stock plugin's
	maxTTL                = 3600            // seconds; the stock plugin's
	maxDefaultNegativeTTL = 5               // seconds; a Service made just after a miss must soon resolve
	defaultStartupTimeout = 5 * time.Second // the stock plugin's
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
	namespaceLabels string
	labels          string

	pods             podMode
	endpointPodNames bool
	noendpoints      bool
	zonal            bool
	multicluster     []string // a subset of zones

	ttl               uint32 // seconds
	negativeTTL       uint32 // seconds
	fall              fall.F
	ignoreEmpty       bool
	explain           respond.Explain
	ptr               ptrMode
	externalNameRcode respond.AliasCode
	startupTimeout    time.Duration

	at place // where the directive stands

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
	p := parser{Controller: c, root: dnsserver.GetConfig(c).Root, given: make(map[string]place)}
	p.cfg = config{ttl: defaultTTL, fall: fall.Zero, startupTimeout: defaultStartupTimeout}

	c.Next()
	directive := c.Val()
	p.start = p.place()
	p.cfg.at = p.start
	if err := p.directive(); err != nil {
		return config{}, err
	}
	if c.Next() {
		if c.Val() == directive {
			return config{}, p.place().errorf("%s: given twice in this server block, first at %s", directive, p.start)
		}
		return config{}, p.place().errorf("unexpected %q after %s", c.Val(), directive)
	}
	for _, check := range []func() error{p.checkZones, p.checkSource, p.checkSelection, p.checkEndpoints} {
		if err := check(); err != nil {
			return config{}, err
		}
	}
	p.checkFall()
	if !p.has("negative_ttl") {
		p.cfg.negativeTTL = min(p.cfg.ttl, maxDefaultNegativeTTL)
	}
	return p.cfg, nil
}

// A parser holds the state of one call of parse.
type parser struct {
	*caddy.Controller
	cfg   config
	start place            // of the directive
	root  string           // where relative paths begin, from the root plugin; may be ""
	given map[string]place // options seen so far
}

// An option is a property of the block. set gets as many arguments as min and
// max allow, none of them empty.
type option struct {
	name     string
	usage    string // its arguments, as README.md shows them
	min, max int
	set      func(p *parser, args []string) error
}

const many = math.MaxInt // as option.max: no limit

// options are all properties, in the order of README.md.
var options = []option{
	{"manifests", "PATH...", 1, many, (*parser).setManifests},
	{"endpoint", "URL", 1, many, (*parser).setEndpoint},
	{"tls", "CERT KEY CACERT", 3, 3, (*parser).setTLS},
	{"kubeconfig", "FILE [CONTEXT]", 1, 2, (*parser).setKubeconfig},
	{"apiserver_qps", "QPS", 1, 1, (*parser).setQPS},
	{"apiserver_burst", "BURST", 1, 1, whole(func(c *config) *int { return &c.burst }, 0, math.MaxInt32)},
	{"apiserver_max_inflight", "MAX", 1, 1, whole(func(c *config) *int { return &c.maxInflight }, 0, math.MaxInt32)},
	{"namespaces", "NAMESPACE...", 1, many, (*parser).setNamespaces},
	{"namespace_labels", "EXPRESSION", 1, many, selector(func(c *config) *string { return &c.namespaceLabels })},
	{"labels", "EXPRESSION", 1, many, selector(func(c *config) *string { return &c.labels })},
	{"pods", "disabled|insecure|verified", 1, 1, oneOf(func(c *config) *podMode { return &c.pods },
		choice[podMode]{"disabled", podsDisabled}, choice[podMode]{"insecure", podsInsecure}, choice[podMode]{"verified", podsVerified})},
	{"endpoint_pod_names", "", 0, 0, flag(func(c *config) *bool { return &c.endpointPodNames })},
	{"noendpoints", "", 0, 0, flag(func(c *config) *bool { return &c.noendpoints })},
	{"zonal", "", 0, 0, flag(func(c *config) *bool { return &c.zonal })},
	{"multicluster", "[ZONES...]", 0, many, (*parser).setMulticluster},
	{"ttl", "SECONDS", 1, 1, whole(func(c *config) *uint32 { return &c.ttl }, 0, maxTTL)},
	{"negative_ttl", "SECONDS", 1, 1, whole(func(c *config) *uint32 { return &c.negativeTTL }, 0, maxTTL)},
	{"fallthrough", "[ZONES...]", 0, many, (*parser).setFallthrough},
	{"ignore", "empty_service", 1, 1, oneOf(func(c *config) *bool { return &c.ignoreEmpty }, choice[bool]{"empty_service", true})},
	{"ptr", "all|first", 1, 1, oneOf(func(c *config) *ptrMode { return &c.ptr },
		choice[ptrMode]{"all", ptrAll}, choice[ptrMode]{"first", ptrFirst})},
	{"externalname_rcode", "target|noerror", 1, 1, oneOf(func(c *config) *respond.AliasCode { return &c.externalNameRcode },
		choice[respond.AliasCode]{"target", respond.TargetCode}, choice[respond.AliasCode]{"noerror", respond.NoErrorCode})},
	{"explain", "reason|off", 1, 1, oneOf(func(c *config) *respond.Explain { return &c.explain },
		choice[respond.Explain]{"reason", respond.ExplainReason}, choice[respond.Explain]{"off", respond.ExplainOff})},
	{"startup_timeout", "DURATION", 1, 1, (*parser).setStartupTimeout},
}

// directive reads the zones and the block.
func (p *parser) directive() error {
	args := p.RemainingArgs()
	if _, err := zoneNames(args); err != nil {
		return p.start.errorf("%w", err)
	}
	// Arguments of the form 10.0.0.0/17 become reverse zones, one or several.
	p.cfg.zones = plugin.OriginsFromArgsOrServerBlock(args, p.ServerBlockKeys)

	for p.NextBlock() {
		if err := p.option(); err != nil {
			return err
		}
	}
	return nil
}

// option reads one property of the block.
func (p *parser) option() error {
	at, name := p.place(), p.Val()
	i := slices.IndexFunc(options, func(o option) bool { return o.name == name })
	if i < 0 {
		return at.errorf("%w", unknown(name))
	}
	o := options[i]
	if first, ok := p.given[name]; ok {
		return at.errorf("%s: given twice, first at %s; want it once, as %q", name, first, o.synopsis())
	}
	p.given[name] = at

	args := p.RemainingArgs()
	if err := o.count(args); err != nil {
		return at.errorf("%w", err)
	}
	if p.NextArg() { // RemainingArgs stops before a brace only
		return at.errorf("%s: unexpected %q; want %q and no block", name, p.Val(), o.synopsis())
	}
	if err := o.set(p, args); err != nil {
		return at.errorf("%s %w", name, err)
	}
	return nil
}

func (o option) synopsis() string { return strings.TrimRight(o.name+" "+o.usage, " ") }

// count checks the number of arguments, and that none is empty, as one from an
// environment variable that is not set would be.
func (o option) count(args []string) error {
	switch {
	case len(args) < o.min:
		return fmt.Errorf("%s: missing argument after %q; want %q", o.name, strings.Join(append([]string{o.name}, args...), " "), o.synopsis())
	case len(args) > o.max:
		return fmt.Errorf("%s: surplus argument %q; want %q", o.name, args[o.max], o.synopsis())
	case slices.Contains(args, ""):
		return fmt.Errorf("%s: empty argument %q; want %q", o.name, "", o.synopsis())
	}
	return nil
}

func (p *parser) setManifests(paths []string) error {
	for _, path := range paths {
		if p.root != "" && !filepath.IsAbs(path) {
			path = filepath.Join(p.root, path)
		}
		p.cfg.manifests = append(p.cfg.manifests, path)
	}
	return nil
}

func (p *parser) setEndpoint(urls []string) error {
	if len(urls) > 1 {
		p.warn("endpoint", "only the first of %d API servers is used: %s", len(urls), urls[0])
	}
	if !isServer(urls[0]) {
		return fmt.Errorf("%q: want a URL or HOST:PORT", urls[0])
	}
	p.cfg.endpoint = urls[0]
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

func (p *parser) setTLS(files []string) error {
	p.cfg.cert, p.cfg.key, p.cfg.ca = files[0], files[1], files[2]
	return nil
}

func (p *parser) setKubeconfig(args []string) error {
	p.cfg.kubeconfig = args[0]
	if len(args) > 1 {
		p.cfg.context = args[1]
	}
	return nil
}

func (p *parser) setQPS(args []string) error {
	qps, err := strconv.ParseFloat(args[0], 32)
	if err != nil || !(qps >= 0) || math.IsInf(qps, 0) { // !(NaN >= 0)
		return fmt.Errorf("%q: want a number of requests a second, 0 or more", args[0])
	}
	p.cfg.qps = float32(qps)
	return nil
}

func (p *parser) setNamespaces(names []string) error {
	for _, name := range names {
		namespace := strings.ToLower(name)
		if validation.IsDNS1123Label(namespace) != nil {
			return fmt.Errorf("%q: want names of namespaces, separated by spaces", name)
		}
		p.cfg.namespaces = append(p.cfg.namespaces, namespace)
	}
	slices.Sort(p.cfg.namespaces)
	p.cfg.namespaces = slices.Compact(p.cfg.namespaces)
	return nil
}

func (p *parser) setMulticluster(args []string) (err error) {
	if len(args) == 0 {
		p.warn("multicluster", "no zone is given, so none is a multicluster zone")
	}
	p.cfg.multicluster, err = zoneNames(args)
	return err
}

func (p *parser) setFallthrough(args []string) error {
	if _, err := zoneNames(args); err != nil {
		return err
	}
	p.cfg.fall.SetZonesFromArgs(args)
	return nil
}

func (p *parser) setStartupTimeout(args []string) error {
	d, err := time.ParseDuration(args[0])
	if err != nil || d < 0 {
		return fmt.Errorf("%q: want a duration, 0 or more, such as 5s", args[0])
	}
	p.cfg.startupTimeout = d
	return nil
}

// flag sets an option that has no arguments.
func flag(field func(*config) *bool) func(*parser, []string) error {
	return func(p *parser, _ []string) error {
		*field(&p.cfg) = true
		return nil
	}
}

// whole sets an option to a whole number from low to high.
func whole[T int | uint32](field func(*config) *T, low, high int) func(*parser, []string) error {
	return func(p *parser, args []string) error {
		n, err := strconv.Atoi(args[0])
		if err != nil || n < low || n > high {
			return fmt.Errorf("%q: want a whole number from %d to %d", args[0], low, high)
		}
		*field(&p.cfg) = T(n)
		return nil
	}
}

// A choice is a value that an option takes, and the word for it.
type choice[T any] struct {
	word  string
	value T
}

// oneOf sets an option to the value that its argument stands for.
func oneOf[T any](field func(*config) *T, choices ...choice[T]) func(*parser, []string) error {
	words := make([]string, 0, len(choices))
	for _, c := range choices {
		words = append(words, c.word)
	}
	return func(p *parser, args []string) error {
		i := slices.Index(words, args[0])
		if i < 0 {
			return fmt.Errorf("%q: want %s", args[0], strings.Join(words, " or "))
		}
		*field(&p.cfg) = choices[i].value
		return nil
	}
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
		*field(&p.cfg) = s.String()
		return nil
	}
}

// zoneNames normalises names of zones. CoreDNS's own functions leave out what
// they do not understand; this one refuses it.
func zoneNames(args []string) ([]string, error) {
	var zones []string
	for _, arg := range args {
		_, host := pkgparse.Transport(arg)
		_, _, err := plugin.SplitHostPort(host)
		if err != nil || host == "" || strings.ContainsAny(host, "{}") {
			return nil, fmt.Errorf("%q: want a zone: a domain name, or a network such as 10.0.0.0/16", arg)
		}
		zones = append(zones, plugin.Host(arg).NormalizeExact()...)
	}
	return zones, nil
}

func (p *parser) checkZones() error {
	i := slices.IndexFunc(p.cfg.zones, func(zone string) bool { return !schema.IsReverse(zone) })
	if i < 0 {
		return p.start.errorf("zones %v: want at least one that is not below in-addr.arpa or ip6.arpa", p.cfg.zones)
	}
	p.cfg.primary = p.cfg.zones[i]
	for _, zone := range p.cfg.multicluster {
		if !slices.Contains(p.cfg.zones, zone) {
			return p.given["multicluster"].errorf("multicluster %q: want one of the directive's own zones, %v", zone, p.cfg.zones)
		}
	}
	return nil
}

// checkSource decides between several sources, as the stock plugin does:
// kubeconfig, then endpoint, then in-cluster. It never had manifests, so there
// is no habit to respect: these exclude any API server.
func (p *parser) checkSource() error {
	for _, name := range []string{"kubeconfig", "endpoint", "tls", "apiserver_qps", "apiserver_burst", "apiserver_max_inflight"} {
		if p.has("manifests") && p.has(name) {
			return p.given[name].errorf("%s: not together with manifests at %s, which needs no API server", name, p.given["manifests"])
		}
	}
	switch {
	case p.has("kubeconfig"):
		p.ignore("endpoint", "kubeconfig is set")
		p.ignore("tls", "kubeconfig is set")
		p.cfg.endpoint, p.cfg.cert, p.cfg.key, p.cfg.ca = "", "", "", ""
	case !p.has("endpoint"):
		p.ignore("tls", "endpoint is not set")
		p.cfg.cert, p.cfg.key, p.cfg.ca = "", "", ""
	}
	return nil
}

func (p *parser) checkSelection() error {
	if p.has("namespaces") && p.has("namespace_labels") {
		return p.given["namespace_labels"].errorf("namespace_labels: not together with namespaces at %s; want one of them", p.given["namespaces"])
	}
	return nil
}

func (p *parser) checkEndpoints() error {
	if !p.cfg.noendpoints {
		return nil
	}
	if p.cfg.zonal {
		return p.given["zonal"].errorf("zonal: not together with noendpoints at %s, since zonal names are names of endpoints", p.given["noendpoints"])
	}
	p.ignore("endpoint_pod_names", "noendpoints is set")
	return nil
}

func (p *parser) checkFall() {
	for _, through := range p.cfg.fall.Zones {
		overlaps := func(zone string) bool { return dns.IsSubDomain(zone, through) || dns.IsSubDomain(through, zone) }
		if !slices.ContainsFunc(p.cfg.zones, overlaps) {
			p.warn("fallthrough", "%q has no name in common with the zones %v", through, p.cfg.zones)
		}
	}
}

func (p *parser) has(name string) bool {
	_, ok := p.given[name]
	return ok
}

// ignore warns that an option, if it is given, does nothing.
func (p *parser) ignore(name, why string) {
	if p.has(name) {
		p.warn(name, "ignored, since %s", why)
	}
}

func (p *parser) warn(name, format string, args ...any) {
	p.cfg.warnings = append(p.cfg.warnings, fmt.Sprintf("%s - %s: %s", p.given[name], name, fmt.Sprintf(format, args...)))
}

// A place is where a word stands in a Corefile or in a file it imports.
type place struct {
	file string
	line int
}

func (p *parser) place() place { return place{p.File(), p.Line()} }

func (at place) String() string { return fmt.Sprintf("%s:%d", at.file, at.line) }

// errorf is caddy's Errf for an earlier place than the current word, and %w.
func (at place) errorf(format string, args ...any) error {
	return fmt.Errorf("%s - Error during parsing: %w", at, fmt.Errorf(format, args...))
}

// unknown says which options there are, and which may have been meant.
func unknown(name string) error {
	names := make([]string, 0, len(options))
	for _, o := range options {
		names = append(names, o.name)
	}
	slices.Sort(names)
	text := fmt.Sprintf("unknown option %q", name)
	if near := nearest(name, names); near != "" {
		text += fmt.Sprintf(", did you mean %q?", near)
	}
	return errors.New(text + "; want one of " + strings.Join(names, ", "))
}

// nearest returns the first of names with the fewest edits from name, or "" if
// that is more than one edit for every three octets.
func nearest(name string, names []string) string {
	near := slices.MinFunc(names, func(a, b string) int { return cmp.Compare(edits(name, a), edits(name, b)) })
	if 3*edits(name, near) > max(len(name), len(near)) {
		return ""
	}
	return near
}

// edits is the Levenshtein distance: how many octets have to be inserted, left
// out or replaced to make b of a.
func edits(a, b string) int {
	row := make([]int, len(b)+1) // distances from the part of a so far to each prefix of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

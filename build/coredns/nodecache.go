package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// isNodeCache tells whether the arguments are those of node-cache, which needs
// -localip and CoreDNS does not know it.
func isNodeCache(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		return strings.HasPrefix(arg, "-") && name == "localip"
	})
}

// followInterval is how often node-cache looks at its template and at kube-dns's
// ConfigMap.
const followInterval = 10 * time.Second

// A nodeCacheConfig is what node-cache's flags say.
type nodeCacheConfig struct {
	localIPs   []netip.Addr
	device     string
	redirect   bool
	template   string // file
	corefile   string // file that is written
	kubeDNS    string // folder of the ConfigMap kube-dns, "" for none
	upstream   string // Service of the cluster's DNS
	prometheus string
	signal     bool // SIGUSR1 rather than the plugin reload

	rest []string // flags of CoreDNS
}

// nodeCache makes this process serve as node-cache would with its flags: it
// writes the Corefile, keeps it up to date, and returns CoreDNS's flags.
func nodeCache(args []string) ([]string, error) {
	cfg, err := parseNodeCache(args)
	if err != nil {
		return nil, fmt.Errorf("node-cache's flags: %w", err)
	}
	written, err := cfg.render()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(cfg.corefile, written, 0o644); err != nil {
		return nil, err
	}
	go cfg.follow(written)
	return append([]string{"-conf", cfg.corefile}, cfg.rest...), nil
}

// parseNodeCache reads node-cache's flags. What has no meaning here is taken and
// forgotten: rules and addresses are repaired when they change and not in an
// interval, the end of the process needs no teardown, and the port of health
// checks is that of the Corefile.
func parseNodeCache(args []string) (*nodeCacheConfig, error) {
	cfg := &nodeCacheConfig{}
	flags := flag.NewFlagSet("node-cache", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	local := flags.String("localip", "", "")
	conf := flags.String("conf", "", "")
	flags.StringVar(&cfg.device, "interfacename", "nodelocaldns", "")
	flags.BoolVar(&cfg.redirect, "setupiptables", true, "")
	flags.StringVar(&cfg.template, "basecorefile", "/etc/coredns/Corefile.base", "")
	flags.StringVar(&cfg.corefile, "corefile", "/etc/Corefile", "")
	flags.StringVar(&cfg.kubeDNS, "kubednscm", "", "")
	flags.StringVar(&cfg.upstream, "upstreamsvc", "kube-dns", "")
	flags.StringVar(&cfg.prometheus, "prometheus-listen-address", ":9253", "")
	flags.BoolVar(&cfg.signal, "reloadwithsignal", false, "")
	for _, ignored := range []string{"syncinterval", "health-port", "metrics-listen-address"} {
		flags.String(ignored, "", "")
	}
	for _, ignored := range []string{"setupinterface", "skipteardown", "setupebtables"} {
		flags.Bool(ignored, false, "")
	}
	ours, rest := split(args, flags)
	if err := flags.Parse(ours); err != nil {
		return nil, err
	}
	cfg.rest = rest
	cfg.corefile = cmp.Or(*conf, cfg.corefile)
	for text := range strings.SplitSeq(*local, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("-localip %q: want IP addresses with commas between", *local)
		}
		cfg.localIPs = append(cfg.localIPs, a)
	}
	return cfg, nil
}

// split parts the arguments into those that a flag set knows and the others.
func split(args []string, flags *flag.FlagSet) (known, other []string) {
	for i := 0; i < len(args); i++ {
		to := &other
		name, _, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		f := flags.Lookup(name)
		if f != nil {
			to = &known
		}
		*to = append(*to, args[i])
		boolean := false
		if f != nil {
			b, ok := f.Value.(interface{ IsBoolFlag() bool })
			boolean = ok && b.IsBoolFlag()
		}
		if !hasValue && !boolean && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			i++
			*to = append(*to, args[i])
		}
	}
	return known, other
}

// follow writes the Corefile anew when what it is made of changes. A template
// that cannot be used is refused, and the Corefile from before stays.
func (c *nodeCacheConfig) follow(written []byte) {
	trouble := ""
	for range time.Tick(followInterval) {
		text, err := c.render()
		if err == nil && !bytes.Equal(text, written) {
			err = replace(c.corefile, text)
		}
		switch {
		case err != nil:
			if err.Error() != trouble {
				log.Printf("[ERROR] The Corefile stays as it is: %v", err)
				trouble = err.Error()
			}
			continue
		case !bytes.Equal(text, written) && c.signal:
			_ = syscall.Kill(os.Getpid(), syscall.SIGUSR1) // to ourselves it cannot fail
		}
		written, trouble = text, ""
	}
}

// replace writes a file that is never seen half written, where its folder allows.
func replace(file string, text []byte) error {
	aside := file + ".new"
	if err := os.WriteFile(aside, text, 0o644); err != nil {
		return os.WriteFile(file, text, 0o644)
	}
	return os.Rename(aside, file)
}

var (
	// forwardBlock is where node-cache forwards what is not the cluster's.
	forwardBlock = regexp.MustCompile(`(?m)forward \. __PILLAR__UPSTREAM__SERVERS__\s*\{[^}]*\}`)
	forceTCP     = regexp.MustCompile(`(?m)^\s*force_tcp\s*$\n?`)
	bindLine     = regexp.MustCompile(`(?m)^([ \t]*)bind[ \t]+(.*)$`)
)

// render makes the Corefile of the template.
func (c *nodeCacheConfig) render() ([]byte, error) {
	template, err := os.ReadFile(c.template)
	if err != nil {
		return nil, err
	}
	text := string(template)
	stubs, upstreams, err := c.kubeDNSConfig()
	if err != nil {
		return nil, err
	}
	servers := "/etc/resolv.conf"
	if len(upstreams) > 0 {
		servers = strings.Join(upstreams, " ")
		// They may speak UDP only, which node-cache allows for.
		text = forwardBlock.ReplaceAllStringFunc(text, func(block string) string { return forceTCP.ReplaceAllString(block, "") })
	}
	cluster := os.Getenv(strings.ToUpper(strings.ReplaceAll(c.upstream, "-", "_")) + "_SERVICE_HOST")
	if cluster == "" && strings.Contains(text, "__PILLAR__CLUSTER__DNS__") {
		return nil, fmt.Errorf("%s: __PILLAR__CLUSTER__DNS__: no address of the Service %s is in the environment; "+
			"create it in the namespace of this pod, and the pod after it", c.template, c.upstream)
	}
	text += stubs
	text = strings.NewReplacer(
		"__PILLAR__LOCAL__DNS__", join(c.localIPs),
		"__PILLAR__DNS__SERVER__", "",
		"__PILLAR__DNS__DOMAIN__", "cluster.local",
		"__PILLAR__CLUSTER__DNS__", cluster,
		"__PILLAR__UPSTREAM__SERVERS__", servers,
		"__PROMETHEUS__ENDPOINT__", c.prometheus,
	).Replace(text)
	return c.addNodelocal(text)
}

// addNodelocal adds the directive to the first server block that binds one of
// the addresses. For the others, bind is enough.
func (c *nodeCacheConfig) addNodelocal(text string) ([]byte, error) {
	for _, at := range bindLine.FindAllStringSubmatchIndex(text, -1) {
		indent, bound := text[at[2]:at[3]], strings.Fields(text[at[4]:at[5]])
		if !slices.ContainsFunc(c.localIPs, func(a netip.Addr) bool { return slices.Contains(bound, a.String()) }) {
			continue
		}
		how := "auto"
		if !c.redirect {
			how = "none"
		}
		directive := fmt.Sprintf("%[1]snodelocal %[2]s {\n%[1]s    interface %[3]s\n%[1]s    redirect %[4]s\n%[1]s}\n", indent, join(c.localIPs), c.device, how)
		return []byte(text[:at[0]] + directive + text[at[0]:]), nil
	}
	return nil, fmt.Errorf("%s: no server block binds %s; want bind __PILLAR__LOCAL__DNS__", c.template, join(c.localIPs))
}

func join(addresses []netip.Addr) string {
	var texts []string
	for _, a := range addresses {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, " ")
}

// kubeDNSFolder is where node-cache's manifest mounts the ConfigMap kube-dns.
const kubeDNSFolder = "/etc/kube-dns"

// kubeDNSConfig reads the ConfigMap kube-dns: server blocks for its stub domains,
// and its servers for other names.
func (c *nodeCacheConfig) kubeDNSConfig() (blocks string, upstreams []string, err error) {
	folder := cmp.Or(c.kubeDNS, kubeDNSFolder)
	var stubs map[string][]string
	for key, value := range map[string]any{"stubDomains": &stubs, "upstreamNameservers": &upstreams} {
		file := filepath.Join(folder, key)
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		if err := json.Unmarshal(text, value); err != nil {
			return "", nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	for _, domain := range slices.Sorted(maps.Keys(stubs)) {
		blocks += fmt.Sprintf("\n%s:53 {\n    errors\n    cache 30\n    bind %s\n    forward . %s\n}\n", domain, join(c.localIPs), strings.Join(stubs[domain], " "))
	}
	return blocks, upstreams, nil
}

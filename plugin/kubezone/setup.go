package kubezone

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/kubezone/kubezone/plugin/internal/kube"
	"github.com/kubezone/kubezone/plugin/internal/respond"
	"github.com/kubezone/kubezone/plugin/internal/schema"
)

var log = clog.NewWithPlugin("kubezone")

// stockDirective is that of the plugin that this one replaces.
const stockDirective = "kubernetes"

func init() {
	RegisterAs("kubezone")
	kindStatuses = func() []kube.KindStatus {
		var all []kube.KindStatus
		for _, s := range openStores() {
			all = append(all, s.Status()...)
		}
		return all
	}
}

// RegisterAs makes the plugin answer to directive too. A build that does not
// link the stock kubernetes plugin calls it with "kubernetes", before main
// runs; registering a directive twice panics, as everywhere in caddy.
func RegisterAs(directive string) {
	plugin.Register(directive, func(c *caddy.Controller) error {
		if err := setup(c, directive); err != nil {
			return plugin.Error(directive, err)
		}
		return nil
	})
}

func setup(c *caddy.Controller, directive string) error {
	if directive == stockDirective {
		registerStockMetrics()
	}
	cfg, err := parse(c)
	if err != nil {
		return err
	}
	for _, w := range cfg.warnings {
		log.Warning(w)
	}
	cfg.external = wantsExternal(c)
	server := dnsserver.GetConfig(c)
	cfg.metadata = hasMetadata(server)
	k, err := newKubezone(cfg, directive)
	if err != nil {
		return err
	}
	hook(c, k)
	c.OnStartup(func() error {
		k.local = localAddrs(server.ListenHosts)
		return k.checkMetadata(server)
	})
	server.AddPlugin(func(next plugin.Handler) plugin.Handler {
		k.Next = next
		return k
	})
	server.Plugin = slices.Insert(server.Plugin, 0, plugin.Plugin(func(next plugin.Handler) plugin.Handler {
		return respond.Gate{Next: next, Zones: k.Zones}
	}))
	return nil
}

func newKubezone(cfg config, directive string) (*Kubezone, error) {
	store, err := kube.Open(cfg.kube())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.sourceAt, err)
	}
	k := &Kubezone{
		config: cfg,
		Responder: respond.Responder{
			Directive: directive,
			Fall:      cfg.fall,
			Own:       cfg.reverseRanges,
			Objects:   store,
			Explain:   cfg.explain,
			AliasCode: cfg.externalNameRcode,
			Lookup:    upstream.New(),
			Count:     countOutcome,
		},
		store:  store,
		search: searchPath("/etc/resolv.conf"),
	}
	k.Zones = k.newZones()
	return k, nil
}

// newZones works out the zones from their names.
func (k *Kubezone) newZones() respond.Zones {
	primary := k.primary
	for _, name := range k.zones {
		if !schema.IsReverse(name) && !slices.Contains(k.multicluster, name) {
			primary = name // a multicluster zone has no PTR records
			break
		}
	}
	cluster := &schema.Schema{Config: schema.Config{
		Index:       k.store.Index(),
		PrimaryZone: primary,
		TTL:         k.ttl,
		NegativeTTL: k.negativeTTL,
		Pods:        schema.PodMode(k.pods),
		PodRanges:   k.podRanges,
		Features:    k.features(),
		Local:       func() []netip.Addr { return k.local },
	}}
	if k.zonal {
		cluster.Grammar = schema.Zonal
	}
	imports := &schema.Schema{Config: cluster.Config}
	imports.Index, imports.Grammar, imports.Pods = k.store.Imports(), schema.Multicluster, schema.PodsDisabled
	imports.Local = cluster.ServerAddrs

	var zones respond.Zones
	for _, name := range k.zones {
		s := cluster
		if slices.Contains(k.multicluster, name) {
			s = imports
		}
		zones = append(zones, respond.NewZone(name, s, k.fall))
	}
	return zones
}

// kube is what the options ask of the source of objects.
func (cfg config) kube() kube.Config {
	return kube.Config{
		Manifests:       cfg.manifests,
		Kubeconfig:      cfg.kubeconfig,
		Context:         cfg.context,
		Endpoint:        cfg.endpoint,
		CertFile:        cfg.cert,
		KeyFile:         cfg.key,
		CAFile:          cfg.ca,
		QPS:             cfg.qps,
		Burst:           cfg.burst,
		MaxInflight:     cfg.maxInflight,
		Namespaces:      cfg.namespaces,
		Denied:          cfg.denied,
		NamespaceLabels: cfg.namespaceLabels,
		Labels:          cfg.labels,
		Slices:          !cfg.noendpoints,
		HeadlessOnly:    cfg.endpoints == endpointsHeadless,
		Pods:            cfg.pods == podsVerified,
		PodLabels:       cfg.pods == podsVerified && cfg.metadata,
		TopologyZones:   cfg.zonal,
		Imports:         len(cfg.multicluster) > 0,
		PodNames:        cfg.endpointPodNames,
		External:        cfg.external,
		Snapshot:        cfg.snapshot,
		NoBrake:         cfg.noBrake,
		SelfCheck:       cfg.selfCheck,
	}
}

func (cfg config) features() schema.Features {
	var f schema.Features
	if cfg.noendpoints {
		f |= schema.NoEndpoints
	}
	if cfg.endpoints == endpointsHeadless {
		f |= schema.HeadlessEndpoints
	}
	if cfg.ignoreEmpty {
		f |= schema.IgnoreEmptyService
	}
	if cfg.ptr == ptrFirst {
		f |= schema.FirstPTROnly
	}
	return f
}

// awaitSync makes a reload that needs objects which are not there yet wait for
// them, and fail if they do not come, so that the old instance goes on. A first
// start waits for nothing: its port is to be open at once.
func (k *Kubezone) awaitSync() error {
	if !replaces(k) || k.store.Complete() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.startupTimeout)
	defer cancel()
	if err := k.store.WaitSynced(ctx); err != nil {
		return fmt.Errorf("%s: the cluster's objects were not all here after %s (startup_timeout): the configuration before stays", k.Directive, k.startupTimeout)
	}
	return nil
}

// localAddrs are the addresses that a server with these hosts is reached at:
// those it is bound to or, if it is bound to all, those of the machine but for
// loopback. Link-local ones are never among them.
func localAddrs(hosts []string) []netip.Addr {
	var addrs []netip.Addr
	for _, h := range hosts {
		if a, err := netip.ParseAddr(h); err == nil && !a.IsUnspecified() {
			addrs = append(addrs, a.Unmap().WithZone(""))
		}
	}
	if len(addrs) == 0 {
		addrs = interfaceAddrs()
	}
	addrs = slices.DeleteFunc(addrs, netip.Addr.IsLinkLocalUnicast)
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

func interfaceAddrs() []netip.Addr {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		log.Warningf("This machine's addresses, for the name server's records: %v", err)
	}
	var addrs []netip.Addr
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil && !p.Addr().IsLoopback() {
			addrs = append(addrs, p.Addr().Unmap())
		}
	}
	return addrs
}

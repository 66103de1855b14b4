package kubezone

import (
	"context"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/request"
	"github.com/kubezone/kubezone/plugin/internal/index"
	"github.com/kubezone/kubezone/plugin/internal/respond"
	"github.com/kubezone/kubezone/plugin/internal/schema"
)

// Metadata implements metadata.Provider, with the labels of the stock
// kubernetes plugin. What it says of the name asked for is what the name says;
// what it says of the client needs pods verified.
func (k *Kubezone) Metadata(ctx context.Context, state request.Request) context.Context {
	k.describeClient(ctx, state)
	name := state.Name()
	z := k.Zones.Find(name)
	if z == nil || z.Reverse {
		return ctx
	}
	n := z.Parse(name)
	if k.hides(n, z) {
		return ctx
	}
	if n.Form == schema.Impossible {
		describe(ctx, "parse-error", "no object could give this name")
		return ctx
	}
	describe(ctx, "port-name", n.Port)
	describe(ctx, "protocol", n.Protocol)
	if z.Schema.Grammar == schema.Multicluster {
		hostname, cluster, _ := strings.Cut(endpointLabel(n), ".")
		describe(ctx, "endpoint", hostname)
		describe(ctx, "cluster", cluster)
	} else {
		describe(ctx, "endpoint", endpointLabel(n))
	}
	describe(ctx, "service", serviceLabel(n))
	describe(ctx, "namespace", n.Namespace)
	describe(ctx, "kind", kindOf(n.Form))
	if k.zonal {
		describe(ctx, "zone", n.TopologyZone)
	}
	return ctx
}

// hides tells whether an option leaves out what the name would name.
func (k *Kubezone) hides(n schema.Name, z *respond.Zone) bool {
	x := z.Schema.Index
	switch {
	case n.Namespace == "":
		return false
	case x.Hides(n.Namespace), x.SelectsNamespaces() && !x.HasNamespace(n.Namespace):
		return true
	}
	return k.labels != "" && n.Service != "" && x.Service(index.ObjectKey{Namespace: n.Namespace, Name: n.Service}) == nil
}

func describe(ctx context.Context, label, value string) {
	metadata.SetValueFunc(ctx, "kubernetes/"+label, func() string { return value })
}

func (k *Kubezone) describeClient(ctx context.Context, state request.Request) {
	pods := k.podsAt(state.IP())
	if len(pods) == 0 {
		return
	}
	describe(ctx, "client-namespace", pods[0].Namespace)
	describe(ctx, "client-pod-name", pods[0].Name)
	for key, value := range pods[0].Labels.All {
		describe(ctx, "client-label/"+key, value)
	}
}

// metadataPackage is that of the metadata plugin.
var metadataPackage = reflect.TypeFor[metadata.Metadata]().PkgPath()

// hasMetadata tells whether the server block has the metadata plugin, if that
// comes before this one in plugin.cfg. The handlers are not made yet when it has
// to be known, so that the plugin is known by the package of its function.
func hasMetadata(server *dnsserver.Config) bool {
	return slices.ContainsFunc(server.Plugin, func(p plugin.Plugin) bool {
		f := runtime.FuncForPC(reflect.ValueOf(p).Pointer())
		return f != nil && strings.HasPrefix(f.Name(), metadataPackage+".")
	})
}

// checkMetadata fails if the metadata plugin is there and hasMetadata did not see
// it, so that what it is to publish was not kept.
func (k *Kubezone) checkMetadata(server *dnsserver.Config) error {
	if !k.metadata && server.Handler("metadata") != nil {
		return fmt.Errorf("%s: metadata was set up later, and the labels of pods are not kept: it must come before %s in plugin.cfg", k.at, k.Name())
	}
	return nil
}

func endpointLabel(n schema.Name) string {
	if n.Form == schema.Endpoint {
		return n.Label
	}
	return ""
}

// serviceLabel is the name below the namespace, which for a pod is its address.
func serviceLabel(n schema.Name) string {
	if n.Form == schema.PodName {
		return n.Label
	}
	return n.Service
}

func kindOf(f schema.Form) string {
	switch f {
	case schema.PodBranch, schema.PodNamespace, schema.PodName:
		return "pod"
	case schema.SvcBranch, schema.SvcNamespace, schema.Service, schema.Endpoint, schema.Protocol, schema.PortName, schema.ZoneBranch, schema.ZoneName:
		return "svc"
	}
	return ""
}

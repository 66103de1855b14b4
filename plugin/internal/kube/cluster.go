package kube

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// A cluster is a source that lists and watches an API server.
type cluster struct {
	config Config
	rest   *rest.Config
	digest string
}

func newCluster(c Config) (*cluster, error) {
	rc, err := restConfig(c)
	if err != nil {
		return nil, err
	}
	rc.UserAgent = "kubezone"
	rc.WarningHandler = rest.NoWarnings{}
	rc.QPS = -1 // the limits are those of wire, which also measures them
	rc.ContentType = runtime.ContentTypeProtobuf
	rc.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	digest := sha256.New()
	digest.Write([]byte(rc.Host))
	for _, file := range []string{c.Kubeconfig, rc.CAFile} {
		// What cannot be read here was not needed, or an error before.
		content, _ := os.ReadFile(file)
		digest.Write(content)
	}
	cl := &cluster{config: c, rest: rc, digest: string(digest.Sum(nil))}
	// Bad certificates show when a transport is made.
	if _, _, err := newTransport(rc, newWire(c, &reachability{})); err != nil {
		return nil, fmt.Errorf("%s: %w", sourceName(c), err)
	}
	return cl, nil
}

func (cl *cluster) credentials() string { return cl.digest }

func (cl *cluster) start(ctx context.Context, s *Store) error {
	quietKlog()
	reach := &reachability{host: cl.rest.Host}
	s.reach = reach
	rt, connections, err := newTransport(cl.rest, newWire(cl.config, reach))
	if err != nil {
		return fmt.Errorf("%s: %w", sourceName(cl.config), err)
	}
	httpClient := &http.Client{Transport: rt}
	core, err := restClient(cl.rest, corev1.SchemeGroupVersion, httpClient)
	if err != nil {
		return fmt.Errorf("%s: %w", sourceName(cl.config), err)
	}
	discovery, err := restClient(cl.rest, discoveryv1.SchemeGroupVersion, httpClient)
	if err != nil {
		return fmt.Errorf("%s: %w", sourceName(cl.config), err)
	}

	imports, err := importClients(cl.rest, httpClient)
	if err != nil {
		return fmt.Errorf("%s: %w", sourceName(cl.config), err)
	}

	var feeds []*feed
	inTurn := new(turns)
	for _, k := range cl.config.kinds() {
		f := cl.feed(k, s, clients{core, discovery, imports}, inTurn)
		f.listWatch.reach = reach
		feeds = append(feeds, f)
	}
	var running sync.WaitGroup
	if cl.config.SelfCheck > 0 {
		check := newSelfCheck(cl.config.SelfCheck, feeds)
		reach.returned = check.returned
		for _, f := range feeds {
			f.doubt = func() { check.doubt(0) }
		}
		running.Go(func() { check.run(ctx) })
	}
	for _, f := range feeds {
		running.Go(func() { f.run(ctx) })
	}
	// It begins once another request was served, as then this one has a chance.
	cidrs := &cidrSeeker{client: core, pace: pace{turns: inTurn, outage: true}}
	running.Go(func() { cidrs.run(ctx, s) })
	if cl.config.HeadlessOnly {
		running.Go(func() { s.warnOfUnlabelled(ctx, discovery) })
	}
	s.work.Go(func() {
		running.Wait()
		connections.CloseIdleConnections()
	})
	return nil
}

// notEnded selects the pods whose addresses are their own.
const notEnded = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"

const (
	pageSize      = 500
	slicePageSize = 100 // a slice may hold 1,000 endpoints
)

// clients are for the groups of the API.
type clients struct {
	core, discovery rest.Interface
	imports         map[string]rest.Interface // by version
}

// feed puts together what follows a kind.
func (cl *cluster) feed(k kind, s *Store, to clients, inTurn *turns) *feed {
	_, selector, _ := cl.config.selectors() // newSource saw that they parse
	conv := converter{config: cl.config, labels: selector}
	x := s.indexOf(k)
	moves := newMover(x)
	latency := programming{index: x, selective: selector != nil}
	lw := &listWatch{client: to.core, kind: k, index: x, noBrake: cl.config.NoBrake, report: s.report(k), pace: &pace{turns: inTurn}, pageSize: pageSize}
	switch k {
	case serviceImports:
		lw.group, lw.optional = mcs.GroupName, true
		lw.selectors.LabelSelector = cl.config.Labels
		f := newFeed(lw, new(mcs.ServiceImport), new(mcs.ServiceImportList), &table[*mcs.ServiceImport, index.Service]{
			convert: conv.serviceImport, same: x.SameService,
			replace: x.ReplaceServices, set: x.SetService, remove: x.DeleteService,
		})
		f.seek = (&importSeeker{listWatch: lw, clients: to.imports, index: x, pace: pace{turns: inTurn}}).seek
		return f
	case importedSlices:
		lw.client, lw.group, lw.pageSize = to.discovery, discoveryv1.GroupName, slicePageSize
		lw.selectors.LabelSelector = mcs.LabelServiceName // there is such a label
		return newFeed(lw, new(discoveryv1.EndpointSlice), new(discoveryv1.EndpointSliceList), &table[*discoveryv1.EndpointSlice, index.Slice]{
			convert: conv.importedSlice, same: x.SameSlice,
			replace: moves.replace, set: moves.set, remove: moves.remove, ended: moves.close,
		})
	}
	switch k.Kind {
	case index.Services:
		lw.selectors.LabelSelector = cl.config.Labels
		return newFeed(lw, new(corev1.Service), new(corev1.ServiceList), &table[*corev1.Service, index.Service]{
			convert: conv.service, same: x.SameService,
			replace: x.ReplaceServices, set: x.SetService, remove: x.DeleteService,
			added: latency.service,
		})
	case index.EndpointSlices:
		lw.client, lw.group, lw.pageSize = to.discovery, discoveryv1.GroupName, slicePageSize
		if cl.config.HeadlessOnly {
			lw.selectors.LabelSelector = corev1.IsHeadlessService
		}
		return newFeed(lw, new(discoveryv1.EndpointSlice), new(discoveryv1.EndpointSliceList), &table[*discoveryv1.EndpointSlice, index.Slice]{
			convert: conv.slice, same: x.SameSlice,
			replace: moves.replace, set: moves.set, remove: moves.remove, ended: moves.close,
			changed: latency.slice,
		})
	case index.Namespaces:
		lw.selectors.LabelSelector = cl.config.NamespaceLabels
		return newFeed(lw, new(corev1.Namespace), new(corev1.NamespaceList), &table[*corev1.Namespace, index.Namespace]{
			convert: conv.namespace, same: func(n *index.Namespace) *index.Namespace { return n },
			replace: s.replaceNamespaces, set: s.setNamespace, remove: s.deleteNamespace,
		})
	default:
		lw.selectors.FieldSelector = notEnded
		return newFeed(lw, new(corev1.Pod), new(corev1.PodList), &table[*corev1.Pod, index.Pod]{
			convert: conv.pod, same: x.SamePod,
			replace: x.ReplacePods, set: x.SetPod, remove: x.DeletePod,
		})
	}
}

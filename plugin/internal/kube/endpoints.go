package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// Endpoints follows the endpoints of one Service, which have DNS. It reads the
// EndpointSlices of that Service and nothing else. Make one with FollowEndpoints.
type Endpoints struct {
	service string // NAMESPACE/NAME
	rest    rest.Interface
	options metav1.ListOptions
	changed func([]netip.AddrPort)

	cancel context.CancelFunc
	work   sync.WaitGroup

	slices  map[string]*discoveryv1.EndpointSlice // by name; belongs to run
	trouble string                                // that was logged last
}

// FollowEndpoints calls changed with the endpoints of a Service at first and
// after every change, from one goroutine, until Close. Endpoints that are not
// ready are among them only if none is ready. While the API server is away
// nothing is called, and what was called last counts. An error says that there
// is no API server to ask.
func FollowEndpoints(c Config, namespace, name string, changed func([]netip.AddrPort)) (*Endpoints, error) {
	cl, err := newCluster(c)
	if err != nil {
		return nil, err
	}
	quietKlog()
	rt, connections, err := newTransport(cl.rest, newWire(c, &reachability{host: cl.rest.Host}))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sourceName(c), err)
	}
	client, err := restClient(cl.rest, discoveryv1.SchemeGroupVersion, &http.Client{Transport: rt})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sourceName(c), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Endpoints{
		service: namespace + "/" + name,
		rest:    client,
		options: metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name},
		changed: changed,
		cancel:  cancel,
	}
	e.work.Go(func() {
		e.run(ctx, namespace)
		connections.CloseIdleConnections()
	})
	return e, nil
}

// Close ends it, and returns once changed is not called any more.
func (e *Endpoints) Close() {
	e.cancel()
	e.work.Wait()
}

func (e *Endpoints) run(ctx context.Context, namespace string) {
	var p pace
	for p.wait(ctx) == nil {
		version, err := e.list(ctx, namespace)
		for err == nil {
			version, err = e.watch(ctx, namespace, version, &p)
			if err == nil && p.wait(ctx) != nil {
				return
			}
		}
		e.complain(ctx, err)
	}
}

// list reads what there is.
func (e *Endpoints) list(ctx context.Context, namespace string) (version string, err error) {
	var list discoveryv1.EndpointSliceList
	err = e.rest.Get().Namespace(namespace).Resource("endpointslices").VersionedParams(&e.options, metav1.ParameterCodec).
		MaxRetries(0).Do(ctx).Into(&list)
	if err != nil {
		return "", err
	}
	e.slices = make(map[string]*discoveryv1.EndpointSlice)
	for i := range list.Items {
		e.slices[list.Items[i].Name] = &list.Items[i]
	}
	e.trouble = ""
	e.changed(e.addresses())
	return list.ResourceVersion, nil
}

// watch follows changes until the API server ends the watch, as it does every
// few minutes.
func (e *Endpoints) watch(ctx context.Context, namespace, version string, p *pace) (string, error) {
	options := e.options
	options.Watch, options.AllowWatchBookmarks, options.ResourceVersion = true, true, version
	w, err := e.rest.Get().Namespace(namespace).Resource("endpointslices").VersionedParams(&options, metav1.ParameterCodec).
		MaxRetries(0).Watch(ctx)
	if err != nil {
		return "", err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		if event.Type == watch.Error {
			return "", apierrors.FromObject(event.Object)
		}
		slice, ok := event.Object.(*discoveryv1.EndpointSlice)
		if !ok {
			continue
		}
		p.progressed()
		version = slice.ResourceVersion
		switch event.Type {
		case watch.Added, watch.Modified:
			e.slices[slice.Name] = slice
		case watch.Deleted:
			delete(e.slices, slice.Name)
		default: // a bookmark
			continue
		}
		e.changed(e.addresses())
	}
	return version, nil
}

// complain logs a trouble once.
func (e *Endpoints) complain(ctx context.Context, err error) {
	if ctx.Err() != nil || err == nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || err.Error() == e.trouble {
		return
	}
	e.trouble = err.Error()
	if apierrors.IsForbidden(err) {
		log.Warningf("Following the endpoints of service %s: add list and watch on endpointslices in API group %q to a Role there: %v",
			e.service, discoveryv1.GroupName, err)
		return
	}
	log.Warningf("Following the endpoints of service %s: %v", e.service, err)
}

// addresses are the endpoints that are ready, or those that still serve if none is.
func (e *Endpoints) addresses() []netip.AddrPort {
	var ready, serving []netip.AddrPort
	for _, slice := range e.slices {
		if slice.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		port := dnsPort(slice.Ports)
		for _, endpoint := range slice.Endpoints {
			for _, text := range endpoint.Addresses {
				a, err := netip.ParseAddr(text)
				if err != nil {
					continue
				}
				switch to := netip.AddrPortFrom(a, port); {
				case endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready:
					ready = append(ready, to)
				case endpoint.Conditions.Serving != nil && *endpoint.Conditions.Serving:
					serving = append(serving, to)
				}
			}
		}
	}
	if len(ready) == 0 {
		ready = serving
	}
	slices.SortFunc(ready, netip.AddrPort.Compare)
	return slices.Compact(ready)
}

// dnsPort is the port of DNS over TCP among those of a slice: the one whose name
// begins so, or else 53.
func dnsPort(ports []discoveryv1.EndpointPort) uint16 {
	const usual = 53
	for _, p := range ports {
		if p.Port != nil && *p.Port > 0 && *p.Port <= 1<<16-1 && p.Protocol != nil && *p.Protocol == corev1.ProtocolTCP &&
			p.Name != nil && strings.HasPrefix(*p.Name, "dns") {
			return uint16(*p.Port)
		}
	}
	return usual
}

package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
)

// ServiceCIDRs are where the cluster gives Services their addresses, as far as
// that is known: from the API server, or from a snapshot of whatever age.
func (s *Store) ServiceCIDRs() []netip.Prefix {
	if known := s.serviceCIDRs.Load(); known != nil {
		return *known
	}
	return nil
}

// A serviceCIDRList is as much of a list of ServiceCIDRs (networking.k8s.io/v1)
// as is used. The types of that group are not worth their size in the binary.
type serviceCIDRList struct {
	Items []struct {
		Spec struct {
			CIDRs []string `json:"cidrs"`
		} `json:"spec"`
	} `json:"items"`
}

func (l *serviceCIDRList) prefixes() []netip.Prefix {
	var all []netip.Prefix
	for _, item := range l.Items {
		for _, text := range item.Spec.CIDRs {
			if p, err := netip.ParsePrefix(text); err == nil { // the API server has checked it
				all = append(all, p.Masked())
			}
		}
	}
	return all
}

// A cidrSeeker asks for the ServiceCIDRs once: they matter before Services are
// known, and hardly ever change.
type cidrSeeker struct {
	client rest.Interface
	pace   pace
}

// run returns once the API server has answered, or its answer would come too
// late, or ctx is done.
func (s *cidrSeeker) run(ctx context.Context, store *Store) {
	for s.pace.wait(ctx) == nil {
		list, err := s.list(ctx)
		switch {
		case err == nil:
			known := list.prefixes()
			store.serviceCIDRs.Store(&known)
			return
		case apierrors.IsForbidden(err) || apierrors.IsNotFound(err):
			log.Infof("ServiceCIDRs are not known, as the API server has none or does not let us list them (%v): "+
				"until Services are, reverse names of public addresses fall through where fallthrough covers them", err)
			return
		case store.Synced(): // nothing depends on them any more
			return
		}
		s.pace.failed(err)
	}
}

func (s *cidrSeeker) list(ctx context.Context) (*serviceCIDRList, error) {
	octets, err := s.client.Get().AbsPath("/apis/networking.k8s.io/v1/servicecidrs").
		SetHeader("Accept", runtime.ContentTypeJSON).MaxRetries(0).DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	list := new(serviceCIDRList)
	if err := json.Unmarshal(octets, list); err != nil {
		return nil, fmt.Errorf("list of ServiceCIDRs: %w", err)
	}
	return list, nil
}

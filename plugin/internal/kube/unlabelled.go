package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

const (
	unlabelledRetry = 30 * time.Second // nothing waits for the answer
	unlabelledNamed = 3                // that the log names; the others are as easily found
)

// notLabelledHeadless selects the slices that HeadlessOnly leaves out, but for
// those of no Service.
const notLabelledHeadless = "!" + corev1.IsHeadlessService + "," + discoveryv1.LabelServiceName

// warnOfUnlabelled looks once, when all is known, for EndpointSlices of headless
// Services that HeadlessOnly leaves out for want of the label, and logs a
// warning if there are any. The EndpointSlice controller sets the label; who
// makes slices by hand, or Endpoints of which slices are made, may not. It
// returns then, or once ctx is done.
func (s *Store) warnOfUnlabelled(ctx context.Context, discovery rest.Interface) {
	if s.WaitSynced(ctx) != nil {
		return
	}
	for ctx.Err() == nil {
		found, err := s.unlabelled(ctx, discovery)
		if err == nil {
			if len(found) > 0 {
				log.Warning(unlabelledWarning(found))
			}
			return
		}
		log.Debugf("Looking for endpointslices without the label %s: %v", corev1.IsHeadlessService, err)
		pause(ctx, unlabelledRetry)
	}
}

// unlabelled are the slices, by name. Only metadata is listed, by pages.
func (s *Store) unlabelled(ctx context.Context, discovery rest.Interface) ([]string, error) {
	var found []string
	options := metav1.ListOptions{LabelSelector: notLabelledHeadless}
	_, err := listMetadata(ctx, discovery, index.EndpointSlices.String(), options, func(o *metav1.PartialObjectMetadata) {
		st := s.index.Service(index.ObjectKey{Namespace: o.Namespace, Name: o.Labels[discoveryv1.LabelServiceName]})
		if st != nil && st.Service.Type == index.Headless {
			found = append(found, keyText(objectKey(o)))
		}
	})
	slices.Sort(found)
	return found, err
}

func unlabelledWarning(found []string) string {
	named, more := found, ""
	if len(found) > unlabelledNamed {
		named, more = found[:unlabelledNamed], fmt.Sprintf(" and %d more", len(found)-unlabelledNamed)
	}
	return fmt.Sprintf("Not served, as endpoints is headless and they lack the label: endpointslices of headless services %s%s. "+
		"Label them %s=\"\" (for those mirrored from Endpoints, the Endpoints), or use endpoints all",
		strings.Join(named, ", "), more, corev1.IsHeadlessService)
}

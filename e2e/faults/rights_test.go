package faults

import (
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// reader is an account whose rights a row changes.
const reader = "faults-reader"

// grant gives the reader the right to follow these resources, and no other.
func (g *rig) grant(resources ...string) {
	g.Helper()
	role, err := g.cluster.Client.RbacV1().ClusterRoles().Get(g.Context(), reader, metav1.GetOptions{})
	if err != nil {
		g.Fatal(err)
	}
	role.Rules = rules(resources)
	if _, err := g.cluster.Client.RbacV1().ClusterRoles().Update(g.Context(), role, metav1.UpdateOptions{}); err != nil {
		g.Fatal(err)
	}
}

func rules(resources []string) []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{APIGroups: []string{"", "discovery.k8s.io"}, Resources: resources, Verbs: []string{"list", "watch"}}}
}

// makeReader makes the account with the right to these resources.
func makeReader(t *testing.T, resources ...string) {
	t.Helper()
	of := metav1.ObjectMeta{Name: reader}
	subject := rbacv1.Subject{Kind: "ServiceAccount", Namespace: "kube-system", Name: reader}
	_, err := cluster.Client.CoreV1().ServiceAccounts("kube-system").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: of}, metav1.CreateOptions{})
	if err == nil {
		_, err = cluster.Client.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: of, Rules: rules(resources)}, metav1.CreateOptions{})
	}
	if err == nil {
		_, err = cluster.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: of,
			Subjects: []rbacv1.Subject{subject}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: reader}}, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Row 11: a right that is missing affects what depends on it alone, and is named; one that is withdrawn affects nothing
// that is known.
func TestRights(t *testing.T) {
	makeReader(t, "services", "namespaces")
	for _, r := range []row{
		{id: "11a", fault: "no right to slices at first", account: reader, starting: func(*proxy) {}, run: func(g *rig) {
			s := g.ours()
			for question, want := range map[string]string{g.question("kept"): g.truth.now(g.question("kept")), outside: outsideAnswer, g.question("missing"): "NXDOMAIN"} {
				s.server.ExpectWithin(g, reconnectWithin, question, want)
			}
			s.expectEDE(g, g.question("set"), "SERVFAIL", 14)
			s.logs(g, `resource "endpointslices" in API group "discovery.k8s.io": add list and watch on endpointslices to the ClusterRole`)
			s.awaitMetric(g, `coredns_kubezone_state{kind="endpointslices",state="starting"} 1`, time.Second)
			s.awaitMetric(g, `coredns_kubezone_state{kind="services",state="synced"} 1`, time.Second)
			if status, _, err := s.server.Get(s.server.Ready + "/ready"); err != nil || status != http.StatusServiceUnavailable {
				g.Errorf("ready: %d %v; want 503", status, err)
			}
			time.Sleep(2 * time.Second)
			g.grant(kinds...)
			g.converge(reconnectWithin)
			s.server.AwaitReady(g)
		}},
		{id: "11b", fault: "the right to services withdrawn and given back", account: reader, healing: always(reconnectWithin), run: func(g *rig) {
			g.truth.breaks()
			g.grant("endpointslices", "namespaces")
			time.Sleep(500 * time.Millisecond) // until the API server has heard of it
			g.each((*proxy).cut)
			g.create("late")
			g.remove("doomed")
			g.ours().logs(g, `resource "services" in API group "": add list and watch on services to the ClusterRole`)
			g.ours().awaitMetric(g, `coredns_kubezone_state{kind="services",state="stale"} 1`, time.Second)
			g.ours().awaitMetric(g, `coredns_kubezone_state{kind="endpointslices",state="synced"} 1`, time.Second)
			time.Sleep(span{time.Second, time.Minute}.now())
			g.grant(kinds...)
			g.truth.heals()
			g.converge(reconnectWithin)
		}},
	} {
		t.Run("row "+r.id+", "+r.fault, func(t *testing.T) {
			g := newRig(t, cluster, r)
			r.run(g)
			g.finish(r)
		})
	}
}

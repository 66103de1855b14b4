package kube

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubezone/kubezone/plugin/internal/index"
)

// newServiceTable is the store of a reflector for Services.
func newServiceTable() *table[*corev1.Service, index.Service] {
	x := index.New(index.Options{})
	return &table[*corev1.Service, index.Service]{
		index:   x,
		report:  newReport(kind{Kind: index.Services}, &countdown{left: 1, done: make(chan struct{})}),
		pace:    new(pace),
		convert: converter{}.service,
		same:    x.SameService, replace: x.ReplaceServices, set: x.SetService, remove: x.DeleteService,
	}
}

func numbered(n, version int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: fmt.Sprintf("s%d", n), ResourceVersion: fmt.Sprint(version)},
		Spec:       corev1.ServiceSpec{ClusterIP: fmt.Sprintf("10.96.%d.%d", n/250, n%250)},
	}
}

func numberedKey(n int) index.ObjectKey {
	return index.ObjectKey{Namespace: "prod", Name: fmt.Sprintf("s%d", n)}
}

// list gives the table a list of the Services from one number to before another.
func list(t *testing.T, table *table[*corev1.Service, index.Service], from, to, version int) {
	t.Helper()
	var items []any
	for n := from; n < to; n++ {
		items = append(items, table.slim(numbered(n, version)))
	}
	if err := table.Replace(items, fmt.Sprint(version)); err != nil {
		t.Fatal(err)
	}
}

func TestBrake(t *testing.T) {
	const services = 200
	type serviceTable = table[*corev1.Service, index.Service]
	event := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		held   int // before the list
		off    bool
		then   func(*testing.T, *serviceTable)
		braked bool
		want   int // Services served then
	}{
		{"a list that lacks all", services, false, func(t *testing.T, s *serviceTable) {
			list(t, s, 0, 0, 20)
		}, true, services},
		{"as many others", services, false, func(t *testing.T, s *serviceTable) {
			list(t, s, services, 2*services, 20)
		}, true, 2 * services},
		{"half of them", services, false, func(t *testing.T, s *serviceTable) {
			list(t, s, 0, services/2, 20)
		}, false, services / 2},
		{"a hundred that all go", brakeAbove, false, func(t *testing.T, s *serviceTable) {
			list(t, s, 0, 0, 20)
		}, false, 0},
		{"brake off", services, true, func(t *testing.T, s *serviceTable) {
			list(t, s, 0, 0, 20)
		}, false, 0},
		{"just before the end", services, false, func(t *testing.T, s *serviceTable) {
			list(t, s, 0, 1, 20)
			time.Sleep(brakeGrace - time.Second)
		}, true, services},
		{"after the end", services, false, func(t *testing.T, s *serviceTable) {
			list(t, s, 0, 1, 20)
			time.Sleep(brakeGrace + time.Second)
		}, false, 1},
		{"a second such list does not prolong it", services, false, func(t *testing.T, s *serviceTable) {
			list(t, s, 0, 1, 20)
			time.Sleep(brakeGrace / 2)
			list(t, s, 0, 2, 21)
			time.Sleep(brakeGrace/2 + time.Second)
		}, false, 2},
		{"a relist that brings them back", services, false, func(t *testing.T, s *serviceTable) {
			list(t, s, 0, 1, 20)
			list(t, s, 0, services-1, 21)
		}, false, services - 1},
		{"events that bring them back", services, false, func(t *testing.T, s *serviceTable) {
			list(t, s, 0, 1, 20)
			for n := 1; n <= services/2; n++ {
				event(t, s.Add(numbered(n, 20+n)))
			}
		}, false, services/2 + 1},
		{"deletions", services, false, func(t *testing.T, s *serviceTable) {
			list(t, s, 0, 1, 20)
			event(t, s.Delete(numbered(0, 21)))
			event(t, s.Delete(numbered(1, 22)))
		}, true, services - 2},
		{"events meanwhile, after the end", services, false, func(t *testing.T, s *serviceTable) {
			list(t, s, 0, 3, 20)
			event(t, s.Delete(numbered(0, 21)))
			event(t, s.Add(numbered(services, 22)))
			time.Sleep(brakeGrace + time.Second)
		}, false, 3},
		{"a second grace period is as long as the first", services, false, func(t *testing.T, s *serviceTable) {
			list(t, s, 0, 1, 20)
			list(t, s, 0, services, 21)
			time.Sleep(brakeGrace / 2)
			list(t, s, 0, 1, 22)
			time.Sleep(brakeGrace - time.Second)
		}, true, services},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServiceTable()
				defer s.close()
				s.noBrake = c.off
				list(t, s, 0, c.held, 10)
				c.then(t, s)
				synctest.Wait()
				if got := s.index.Count(index.Services); got != c.want || s.report.braked.Load() != c.braked {
					t.Errorf("%d services, braked %t; want %d, %t", got, s.report.braked.Load(), c.want, c.braked)
				}
			})
		})
	}
}

// While a list is held back nothing becomes older, and what is new is there.
func TestBrakeShowsWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServiceTable()
		defer s.close()
		list(t, s, 0, 200, 10)
		items := []any{s.slim(numbered(0, 5)), s.slim(numbered(1, 15)), s.slim(numbered(300, 15))}
		if err := s.Replace(items, "15"); err != nil {
			t.Fatal(err)
		}
		versions := s.index.Versions(index.Services)
		for n, want := range map[int]uint64{0: 10, 1: 15, 2: 10, 300: 15} {
			if got := versions[numberedKey(n)]; got != want {
				t.Errorf("s%d is of version %d; want %d", n, got, want)
			}
		}
		time.Sleep(brakeGrace + time.Second)
		synctest.Wait()
		if versions := s.index.Versions(index.Services); len(versions) != 3 || versions[numberedKey(0)] != 5 {
			t.Errorf("after the grace period %v; want what the list said", versions)
		}
	})
}

// The first list after a snapshot is held back as any other is, and the state of
// the snapshot lasts until it is obeyed.
func TestBrakeAfterSnapshot(t *testing.T) {
	api := newAPIServer(t, prod)
	for n := range 150 {
		o := numbered(n, 0)
		o.TypeMeta = typeMeta("v1", "Service")
		api.put(o)
	}
	c := written(t, api)
	for n := range 150 {
		api.remove("services", "prod/"+numberedKey(n).Name)
	}
	s := open(t, c)
	eventually(t, "the brake", func() bool { return statusOf(s, index.Services).Braked })
	if s.Index().Service(numberedKey(7)) == nil || !s.Stale() || s.Synced() {
		t.Errorf("stale %t, synced %t; want the services of the snapshot, stale and not synced", s.Stale(), s.Synced())
	}
}

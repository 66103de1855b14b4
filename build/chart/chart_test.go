package main

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	manifests = "../kube-system"
	folder    = manifests + "/chart"
)

// The chart in the repository is the one that this program makes of the manifests.
func TestChartIsInStep(t *testing.T) {
	written := load(t)
	want, err := chart(manifests, written.Metadata.Version)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err = filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		got[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, want) {
		t.Error("build/kube-system/chart is not what its manifests make; run `make chart`")
	}
	source, err := os.ReadFile("../coredns/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if line := `const version = "` + written.AppVersion() + `"`; !strings.Contains(string(source), line) {
		t.Errorf("the chart deploys %s, which is not the version of build/coredns", written.AppVersion())
	}
}

// With the values it comes with, Helm makes the same objects of the chart as kustomize of the recommended overlay.
func TestChartIsTheRecommendedOverlay(t *testing.T) {
	objects, err := render(filesys.MakeFsOnDisk(), filepath.Join(manifests, "overlays", "recommended"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]object{}
	for _, o := range objects {
		want[key(o)] = o
	}
	got := helm(t, "")
	for name, o := range want {
		if !reflect.DeepEqual(normal(t, got[name]), normal(t, o)) {
			t.Errorf("%s is\n%v\nby Helm; want\n%v", name, got[name], o)
		}
	}
	if len(got) != len(want) {
		t.Errorf("Helm makes %v; want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

func TestValues(t *testing.T) {
	for _, test := range []struct {
		values, object string
		path           []any
		want           any // nil for a field that must not be there
	}{
		{"image: {repository: registry.example/dns}", "Deployment coredns", []any{"spec", "template", "spec", "containers", 0, "image"}, "registry.example/dns:" + load(t).AppVersion()},
		{"image: {tag: v9}", "Deployment coredns", []any{"spec", "template", "spec", "containers", 0, "image"}, "kubezone:v9"},
		{"replicas: 5", "Deployment coredns", []any{"spec", "replicas"}, 5.0},
		{"autoscaling: true", "Deployment coredns", []any{"spec", "replicas"}, nil},
		{"autoscaling: true", "HorizontalPodAutoscaler coredns", []any{"spec", "minReplicas"}, 2.0},
		{"memory: {limit: 1Gi}", "Deployment coredns", []any{"spec", "template", "spec", "containers", 0, "resources", "limits", "memory"}, "1Gi"},
		{"clusterIP: 10.0.0.10", "Service kube-dns", []any{"spec", "clusterIP"}, "10.0.0.10"},
		{"corefile: |\n  .:53 {\n      whoami\n  }\n", "ConfigMap coredns", []any{"data", "Corefile"}, ".:53 {\n    whoami\n}\n"},
		{"rights: {pods: true}", "ClusterRole system:coredns-pods", []any{"rules", 0, "resources", 0}, "pods"},
		{"rights: {multicluster: true}", "ClusterRoleBinding system:coredns-multicluster", []any{"subjects", 0, "namespace"}, "kube-system"},
	} {
		objects := helm(t, test.values)
		got, err := objects[test.object].at(test.path...)
		if test.want != nil && err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: %v of %s is %v, %v; want %v", test.values, test.path, test.object, got, err, test.want)
		}
	}
	corefile, err := helm(t, "clusterDomain: corp.example")["ConfigMap coredns"].at("data", "Corefile")
	if err != nil || !strings.Contains(corefile.(string), "kubezone corp.example in-addr.arpa ip6.arpa {\n") || strings.Contains(corefile.(string), "cluster.local") {
		t.Errorf("the Corefile for another domain is\n%v", corefile)
	}
}

// Values that are no values are refused, by name.
func TestWrongValues(t *testing.T) {
	for values, want := range map[string]string{
		"replica: 3":                    "replica",
		"replicas: many":                "replicas",
		"image: {pullPolicy: Sometime}": "pullPolicy",
		"clusterDomain: Cluster_Local":  "clusterDomain",
		"rights: {nodes: true}":         "nodes",
	} {
		if _, err := rendered(t, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want a complaint about %s", values, err, want)
		}
	}
}

func load(t *testing.T) *helmchart.Chart {
	t.Helper()
	c, err := loader.LoadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// rendered does what `helm template -n kube-system` does.
func rendered(t *testing.T, values string) (map[string]string, error) {
	t.Helper()
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	c := load(t)
	all, err := chartutil.ToRenderValues(c, given, chartutil.ReleaseOptions{Name: "dns", Namespace: "kube-system"}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, all)
}

// helm returns the objects that Helm makes, by kind and name.
func helm(t *testing.T, values string) map[string]object {
	t.Helper()
	files, err := rendered(t, values)
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]object{}
	for name, text := range files {
		for document := range strings.SplitSeq("\n"+text, "\n---\n") {
			var o object
			if err := yaml.Unmarshal([]byte(document), &o); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, document)
			}
			if len(o) > 0 {
				objects[key(o)] = o
			}
		}
	}
	return objects
}

func key(o object) string { return o["kind"].(string) + " " + o.name() }

// normal is an object with numbers as JSON has them.
func normal(t *testing.T, o object) object {
	t.Helper()
	text, err := yaml.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var n object
	if err := yaml.Unmarshal(text, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

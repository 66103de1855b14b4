package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// An object is one of Kubernetes.
type object map[string]any

// at walks down; a number in the path is an index of a list. It fails if there is no such field, so that a value cannot
// come to set nothing when the manifests change.
func (o object) at(path ...any) (any, error) {
	var here any = map[string]any(o)
	for _, step := range path {
		switch inside := here.(type) {
		case map[string]any:
			here = inside[fmt.Sprint(step)]
		case []any:
			if i, ok := step.(int); ok && i < len(inside) {
				here = inside[i]
				continue
			}
			here = nil
		default:
			here = nil
		}
		if here == nil {
			return nil, fmt.Errorf("%v %v has no %v", o["kind"], o.name(), path)
		}
	}
	return here, nil
}

// set puts a value where there is one already.
func (o object) set(value string, path ...any) error {
	if _, err := o.at(path...); err != nil {
		return err
	}
	parent, err := o.at(path[:len(path)-1]...)
	if err != nil {
		return err
	}
	parent.(map[string]any)[path[len(path)-1].(string)] = value
	return nil
}

func (o object) name() string {
	metadata, _ := o["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	return name
}

// mark is what stands for a template in YAML until that is text: the templates themselves are no YAML.
func mark(name string) string { return "TEMPLATE_" + name + "_" }

// marks are the templates that a mark stands for.
var marks = map[string]string{
	"namespace":  "{{ .Release.Namespace }}",
	"image":      `{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}`,
	"pullPolicy": "{{ .Values.image.pullPolicy }}",
	"replicas":   "{{ .Values.replicas }}",
	"request":    "{{ .Values.memory.request }}",
	"limit":      "{{ .Values.memory.limit }}",
	"clusterIP":  "{{ .Values.clusterIP }}",
	"corefile":   "|\n{{ .Values.corefile | default (tpl (.Files.Get \"Corefile\") .) | trimSuffix \"\\n\" | indent 4 }}",
}

// edits are what differs between clusters, by kind.
var edits = map[string]func(object) error{
	"Deployment": func(o object) error {
		container := []any{"spec", "template", "spec", "containers", 0}
		for _, e := range []struct {
			mark string
			path []any
		}{
			{"replicas", []any{"spec", "replicas"}},
			{"image", append(container[:5:5], "image")},
			{"pullPolicy", append(container[:5:5], "imagePullPolicy")},
			{"request", append(container[:5:5], "resources", "requests", "memory")},
			{"limit", append(container[:5:5], "resources", "limits", "memory")},
		} {
			if err := o.set(mark(e.mark), e.path...); err != nil {
				return err
			}
		}
		return nil
	},
	"Service":   func(o object) error { return o.set(mark("clusterIP"), "spec", "clusterIP") },
	"ConfigMap": func(o object) error { return o.set(mark("corefile"), "data", "Corefile") },
	"ClusterRoleBinding": func(o object) error {
		subjects, err := o.at("subjects")
		if err != nil {
			return err
		}
		for i := range subjects.([]any) {
			if err := o.set(mark("namespace"), "subjects", i, "namespace"); err != nil {
				return err
			}
		}
		return nil
	},
}

// addTemplates adds the objects of the recommended overlay, and those of components under a condition, to a chart.
func addTemplates(files map[string]string, manifests string) error {
	objects, err := render(filesys.MakeFsOnDisk(), filepath.Join(manifests, "overlays", "recommended"))
	if err != nil {
		return err
	}
	for _, o := range objects {
		if o["kind"] == "ConfigMap" {
			corefile, err := o.at("data", "Corefile")
			if err != nil {
				return err
			}
			files["Corefile"] = strings.ReplaceAll(corefile.(string), "cluster.local", "{{ .Values.clusterDomain }}")
		}
		text, err := template(o)
		if err != nil {
			return err
		}
		files[fmt.Sprintf("templates/%v.yaml", strings.ToLower(o["kind"].(string)))] = text
	}
	for component, condition := range map[string]string{"pods": "rights.pods", "multicluster": "rights.multicluster", "autoscale": "autoscaling"} {
		with, err := renderComponent(manifests, component)
		if err != nil {
			return err
		}
		text := "{{- if .Values." + condition + " }}\n"
		for _, o := range with {
			document, err := template(o)
			if err != nil {
				return err
			}
			text += "---\n" + document
		}
		files["templates/"+component+".yaml"] = text + "{{- end }}\n"
	}
	return nil
}

// render returns the objects of a kustomization.
func render(files filesys.FileSystem, folder string) ([]object, error) {
	all, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, folder)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", folder, err)
	}
	var objects []object
	for _, r := range all.Resources() {
		m, err := r.Map()
		if err != nil {
			return nil, err
		}
		objects = append(objects, m)
	}
	return objects, nil
}

// renderComponent returns the objects that a component has of its own.
func renderComponent(manifests, component string) ([]object, error) {
	disk := filesys.MakeFsOnDisk()
	folder := filepath.Join(manifests, "components", component)
	text, err := disk.ReadFile(filepath.Join(folder, "kustomization.yaml"))
	if err != nil {
		return nil, err
	}
	var own struct {
		Resources []string `json:"resources"`
	}
	if err := yaml.Unmarshal(text, &own); err != nil {
		return nil, err
	}
	memory := filesys.MakeFsInMemory()
	list, err := yaml.Marshal(own)
	if err != nil {
		return nil, err
	}
	if err := memory.WriteFile("kustomization.yaml", list); err != nil {
		return nil, err
	}
	for _, name := range own.Resources {
		if text, err = disk.ReadFile(filepath.Join(folder, name)); err != nil {
			return nil, err
		}
		if err := memory.WriteFile(name, text); err != nil {
			return nil, err
		}
	}
	return render(memory, ".")
}

// template is an object as a file of the chart.
func template(o object) (string, error) {
	if _, err := o.at("metadata", "namespace"); err == nil {
		if err := o.set(mark("namespace"), "metadata", "namespace"); err != nil {
			return "", err
		}
	}
	if edit := edits[o["kind"].(string)]; edit != nil {
		if err := edit(o); err != nil {
			return "", err
		}
	}
	text, err := yaml.Marshal(o)
	if err != nil {
		return "", err
	}
	written := string(text)
	for name, template := range marks {
		written = strings.ReplaceAll(written, mark(name), template)
	}
	// The autoscaler owns the number.
	const replicas = "  replicas: {{ .Values.replicas }}\n"
	return strings.Replace(written, replicas, "{{- if not .Values.autoscaling }}\n"+replicas+"{{- end }}\n", 1), nil
}

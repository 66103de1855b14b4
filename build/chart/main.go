// Command chart writes the Helm chart out of build/kube-system: the objects of the recommended overlay with a few values
// in the place of what differs between clusters. `make chart` runs it. There is nothing to edit in what it writes.
package main

import (
	"embed"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// static are the files of the chart that are not made of manifests.
//
//go:embed static
var static embed.FS

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

func run() error {
	manifests := flag.String("manifests", "../kube-system", "the `folder` of build/kube-system")
	version := flag.String("version", "", "the `version` of the chart and of what it deploys")
	out := flag.String("out", "../kube-system/chart", "the `folder` to write, which is emptied first")
	flag.Parse()
	if *version == "" || flag.NArg() > 0 {
		return fmt.Errorf("arguments %q: want -version", os.Args[1:])
	}
	files, err := chart(*manifests, *version)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(*out); err != nil {
		return err
	}
	for name, text := range files {
		path := filepath.Join(*out, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// chart returns the files of the chart.
func chart(manifests, version string) (map[string]string, error) {
	files := map[string]string{
		"Chart.yaml": fmt.Sprintf(`# Made by make chart, as all files here.
apiVersion: v2
name: kubezone
description: The DNS of a Kubernetes cluster
type: application
version: %s
appVersion: %[1]s
home: https://github.com/kubezone/kubezone
`, version),
	}
	names, err := fs.ReadDir(static, "static")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := static.ReadFile("static/" + name.Name())
		if err != nil {
			return nil, err
		}
		files[name.Name()] = string(text)
	}
	return files, addTemplates(files, manifests)
}

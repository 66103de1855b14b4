package main

import (
	"fmt"
	"path/filepath"
	"testing"
)

// The labels of the pod that asks are there for other plugins if the Corefile has metadata, also where another server
// block that has not shares the port.
func TestLabelsOfClients(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, "client.yaml"), `apiVersion: v1
kind: Pod
metadata: {name: client, namespace: prod, labels: {app: shop, example.org/team: one}}
status: {phase: Running, podIP: 127.0.0.1}
`)
	corefile := filepath.Join(folder, "Corefile")
	port := freePort(t)
	write(t, corefile, fmt.Sprintf(`other.example:%d {
    bind 127.0.0.1
    kubernetes cluster.other.example {
        manifests %s
        pods verified
    }
}
.:%[1]d {
    bind 127.0.0.1
    metadata
    log . "asked by {/kubernetes/client-label/app} of {/kubernetes/client-label/example.org/team}"
    kubernetes cluster.local {
        manifests %[2]s
        pods verified
    }
}
`, port, folder))
	server := start(t, corefile)
	server.wants(t, "127-0-0-1.prod.pod.cluster.local. A", "127.0.0.1")
	server.logs(t, "asked by shop of one")
}

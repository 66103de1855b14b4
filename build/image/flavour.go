package main

import (
	"fmt"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// nonroot is the user of the ordinary image. It is the number that distroless images, stock CoreDNS's among them, use.
const nonroot = "65532"

// ports are those of DNS; Corefiles choose the others.
var ports = map[string]struct{}{"53/udp": {}, "53/tcp": {}}

// A flavour is an image: the same binary for another place.
type flavour struct {
	name        string
	description string
	user        string
	capability  fileCapability // of the binary
}

var flavours = []flavour{
	{
		// For a pod in kube-system. It writes to volumes only, so its root may be read-only.
		name:        "kubezone",
		description: "CoreDNS with kubezone, for the DNS of a Kubernetes cluster",
		user:        nonroot + ":" + nonroot,
		capability:  bindService,
	},
	{
		// For every node, in the node's network namespace, whose addresses and rules it changes. Root gets its
		// capabilities from the pod; a capability on the file would only keep it from starting where the pod's lack it.
		name:        "kubezone-node",
		description: "CoreDNS with kubezone, for the DNS of a Kubernetes node",
		user:        "0:0",
	},
}

// index makes the image for every architecture.
func (f flavour) index(r release) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range architectures {
		image, err := f.image(r, arch)
		if err != nil {
			return nil, err
		}
		platform := &v1.Platform{OS: "linux", Architecture: arch, Variant: variant[arch]}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	annotated, ok := mutate.Annotations(index, f.labels(r)).(v1.ImageIndex)
	if !ok {
		return nil, fmt.Errorf("annotations: want an index")
	}
	return annotated, nil
}

// variant is the only one that there is of an architecture; containerd looks for it.
var variant = map[string]string{"arm64": "v8"}

// image makes the image for one architecture: one layer that seldom changes, and one with the binary.
func (f flavour) image(r release, arch string) (v1.Image, error) {
	base, err := newLayer(baseFiles(), r.created)
	if err != nil {
		return nil, err
	}
	binary, err := fromDisk("coredns", r.binary(arch), f.capability)
	if err != nil {
		return nil, err
	}
	program, err := newLayer([]file{binary}, r.created)
	if err != nil {
		return nil, err
	}
	config := &v1.ConfigFile{
		OS:           "linux",
		Architecture: arch,
		Variant:      variant[arch],
		Created:      v1.Time{Time: r.created},
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:         f.user,
			WorkingDir:   "/",
			Entrypoint:   []string{"/coredns"}, // where stock has it, so that manifests for stock fit
			ExposedPorts: ports,
			Labels:       f.labels(r),
		},
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, err
	}
	history := func(comment string) v1.History {
		return v1.History{Created: v1.Time{Time: r.created}, CreatedBy: "make image", Comment: comment}
	}
	return mutate.Append(image,
		mutate.Addendum{Layer: base, History: history("users and certificates")},
		mutate.Addendum{Layer: program, History: history("the server")})
}

// labels are those that the OCI image specification defines.
func (f flavour) labels(r release) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       f.name,
		"org.opencontainers.image.description": f.description,
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.source":      "https://github.com/kubezone/kubezone",
		"org.opencontainers.image.version":     r.version,
		"org.opencontainers.image.revision":    r.revision,
		"org.opencontainers.image.created":     r.created.Format(time.RFC3339),
	}
}

// baseFiles are those beside the binary. There is no shell and no library.
func baseFiles() []file {
	users := []string{"root:x:0:0:root:/:/sbin/nologin", "nonroot:x:" + nonroot + ":" + nonroot + ":nonroot:/:/sbin/nologin"}
	groups := []string{"root:x:0:", "nonroot:x:" + nonroot + ":"}
	return []file{
		directory("etc"),
		text("etc/group", lines(groups)),
		text("etc/nsswitch.conf", "hosts: files dns\n"), // the order that Go's resolver goes by
		text("etc/passwd", lines(users)),
		directory("etc/ssl"),
		directory("etc/ssl/certs"),
		text("etc/ssl/certs/ca-certificates.crt", certificateAuthorities()),
	}
}

func lines(all []string) string { return strings.Join(all, "\n") + "\n" }

package main

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// writeArchive writes an image as an OCI image layout in a tar archive: what `ctr images import`, `podman load`,
// `skopeo copy oci-archive:` and `crane push` read. reference is its name and tag.
func writeArchive(path, reference string, index v1.ImageIndex, modified time.Time) error {
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	folder, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	err = folder.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": reference,
		"io.containerd.image.name":          "docker.io/library/" + reference, // what a kubelet makes of `image: NAME:TAG`
	}))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := pack(out, dir, modified); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// pack writes a folder as a tar archive that depends on nothing but names and contents.
func pack(out *os.File, dir string, modified time.Time) error {
	w := tar.NewWriter(out)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error { // in lexical order
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f := directory(name)
		if !entry.IsDir() {
			if f, err = fromDisk(name, path, 0); err != nil {
				return err
			}
			f.mode = 0o644
		}
		if err := w.WriteHeader(f.header(modified)); err != nil {
			return err
		}
		_, err = w.Write(f.content)
		return err
	})
	if err != nil {
		return err
	}
	return w.Close()
}

// describe prints an image's digest and, for each architecture, how much a node pulls.
func describe(path string, index v1.ImageIndex) error {
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s", path, digest)
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, m := range manifest.Manifests {
		image, err := index.Image(m.Digest)
		if err != nil {
			return err
		}
		size, err := pulled(image)
		if err != nil {
			return err
		}
		fmt.Printf(", %s %.1f MB", m.Platform.Architecture, float64(size)/1e6)
	}
	fmt.Println()
	return nil
}

// pulled is the size of an image's compressed layers.
func pulled(image v1.Image) (size int64, err error) {
	layers, err := image.Layers()
	if err != nil {
		return 0, err
	}
	for _, layer := range layers {
		n, err := layer.Size()
		if err != nil {
			return 0, err
		}
		size += n
	}
	return size, nil
}

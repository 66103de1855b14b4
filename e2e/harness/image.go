package harness

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// An Image is one that was unpacked from an OCI image archive, for one platform.
type Image struct {
	Root   string // a folder with its files
	Config imagespec.ImageConfig
}

// UnpackImage unpacks the image for linux/arch of an archive into dir as a container runtime does, extended attributes
// included, which takes root.
func UnpackImage(archive, arch, dir string) (*Image, error) {
	layout := filepath.Join(dir, "layout")
	file, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := unpackTar(file, layout); err != nil {
		return nil, fmt.Errorf("%s: %w", archive, err)
	}
	image, err := readLayout(layout, arch, filepath.Join(dir, "root"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", archive, err)
	}
	return image, nil
}

// readLayout unpacks an image out of an OCI image layout into root.
func readLayout(layout, arch, root string) (*Image, error) {
	text, err := os.ReadFile(filepath.Join(layout, imagespec.ImageIndexFile))
	if err != nil {
		return nil, err
	}
	var list, platforms imagespec.Index
	if err := json.Unmarshal(text, &list); err != nil || len(list.Manifests) != 1 {
		return nil, fmt.Errorf("%d images, %v; want 1", len(list.Manifests), err)
	}
	if err := readBlob(layout, list.Manifests[0], &platforms); err != nil {
		return nil, err
	}
	for _, platform := range platforms.Manifests {
		if platform.Platform.OS != "linux" || platform.Platform.Architecture != arch {
			continue
		}
		var manifest imagespec.Manifest
		if err := readBlob(layout, platform, &manifest); err != nil {
			return nil, err
		}
		var config imagespec.Image
		if err := readBlob(layout, manifest.Config, &config); err != nil {
			return nil, err
		}
		for _, layer := range manifest.Layers {
			if err := unpackLayer(layout, layer, root); err != nil {
				return nil, fmt.Errorf("layer %s: %w", layer.Digest, err)
			}
		}
		return &Image{Root: root, Config: config.Config}, nil
	}
	return nil, fmt.Errorf("no image for linux/%s", arch)
}

// openBlob opens a blob whose digest and size are right.
func openBlob(layout string, d imagespec.Descriptor) (*os.File, error) {
	file, err := os.Open(filepath.Join(layout, imagespec.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded()))
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	size, err := io.Copy(hash, file)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); err == nil && (sum != d.Digest.Encoded() || size != d.Size) {
		err = fmt.Errorf("%d bytes with digest %s; want %d with %s", size, sum, d.Size, d.Digest)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func readBlob(layout string, d imagespec.Descriptor, to any) error {
	file, err := openBlob(layout, d)
	if err != nil {
		return err
	}
	defer file.Close()
	return json.NewDecoder(file).Decode(to)
}

func unpackLayer(layout string, d imagespec.Descriptor, root string) error {
	if d.MediaType != imagespec.MediaTypeImageLayerGzip {
		return fmt.Errorf("media type %q; want %q", d.MediaType, imagespec.MediaTypeImageLayerGzip)
	}
	file, err := openBlob(layout, d)
	if err != nil {
		return err
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	return unpackTar(plain, root)
}

// unpackTar unpacks files and folders.
func unpackTar(r io.Reader, root string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(header.Name) {
			return fmt.Errorf("%q leads out of the archive", header.Name)
		}
		if err := unpackFile(archive, header, filepath.Join(root, header.Name)); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
}

func unpackFile(content io.Reader, header *tar.Header, path string) error {
	switch header.Typeflag {
	case tar.TypeDir:
		if err := os.Mkdir(path, header.FileInfo().Mode()); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	case tar.TypeReg:
		out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, header.FileInfo().Mode())
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, content); err != nil {
			out.Close()
			return err
		}
		if err := out.Close(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("type %q; want files and folders", header.Typeflag)
	}
	if err := os.Chown(path, header.Uid, header.Gid); err != nil { // before capabilities, which it takes away
		return err
	}
	for key, value := range header.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if err := unix.Setxattr(path, name, []byte(value), 0); err != nil {
				return fmt.Errorf("attribute %s: %w", name, err)
			}
		}
	}
	return nil
}

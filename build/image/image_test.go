package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// testRelease is one whose server is this test itself: any Go program is as good.
func testRelease(t *testing.T) release {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := release{version: "1.2.3", revision: strings.Repeat("ab", 20), created: time.Unix(1764000000, 0).UTC(), binaries: t.TempDir()}
	for _, arch := range architectures {
		if err := os.Mkdir(filepath.Dir(r.binary(arch)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(self, r.binary(arch)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func TestImages(t *testing.T) {
	r := testRelease(t)
	program, err := os.ReadFile(r.binary("amd64"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, user, capability string }{
		// cap_net_bind_service=ep, as getfattr shows it for stock's binary.
		{"kubezone", "65532:65532", "\x01\x00\x00\x02\x00\x04\x00\x00" + strings.Repeat("\x00", 12)},
		{"kubezone-node", "0:0", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := slices.IndexFunc(flavours, func(f flavour) bool { return f.name == test.name })
			index, err := flavours[i].index(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Index(written(t, index)); err != nil { // sizes and digests
				t.Error(err)
			}
			manifest, err := index.IndexManifest()
			if err != nil {
				t.Fatal(err)
			}
			var platforms []string
			for _, m := range manifest.Manifests {
				platforms = append(platforms, m.Platform.String())
				image, err := index.Image(m.Digest)
				if err != nil {
					t.Fatal(err)
				}
				config, err := image.ConfigFile()
				if err != nil {
					t.Fatal(err)
				}
				if c := config.Config; c.User != test.user || !slices.Equal(c.Entrypoint, []string{"/coredns"}) || len(c.Cmd) > 0 ||
					c.Labels["org.opencontainers.image.revision"] != r.revision || c.Labels["org.opencontainers.image.version"] != r.version {
					t.Errorf("config %+v; want user %s, /coredns, version and revision", c, test.user)
				}
				files := contents(t, image)
				for name, f := range files {
					if f.Mode&0o022 != 0 || f.Uid != 0 || f.Gid != 0 || !f.ModTime.Equal(r.created) {
						t.Errorf("%s: mode %o, owner %d:%d, time %v; want root's alone, and the time of the commit", name, f.Mode, f.Uid, f.Gid, f.ModTime)
					}
					if got := f.PAXRecords["SCHILY.xattr.security.capability"]; name != "coredns" && got != "" {
						t.Errorf("%s has the capability %q", name, got)
					}
				}
				if got := files["coredns"]; got.Mode != 0o755 || got.PAXRecords["SCHILY.xattr.security.capability"] != test.capability || got.content != string(program) {
					t.Errorf("coredns: mode %o, capability %q, %d bytes; want 755, %q, %d", got.Mode,
						got.PAXRecords["SCHILY.xattr.security.capability"], len(got.content), test.capability, len(program))
				}
				if got := files["etc/passwd"].content; !strings.Contains(got, "\nnonroot:x:65532:65532:") {
					t.Errorf("etc/passwd: %q; want nonroot", got)
				}
			}
			if want := []string{"linux/amd64", "linux/arm64/v8"}; !slices.Equal(platforms, want) {
				t.Errorf("platforms %q; want %q", platforms, want)
			}
		})
	}
}

// written is an index as it is read back from a folder.
func written(t *testing.T, index v1.ImageIndex) v1.ImageIndex {
	t.Helper()
	folder, err := layout.Write(t.TempDir(), index)
	if err != nil {
		t.Fatal(err)
	}
	index, err = folder.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// A member is a file of a layer as its tar archive has it.
type member struct {
	*tar.Header
	content string
}

// contents are the files of all layers.
func contents(t *testing.T, image v1.Image) map[string]member {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]member{}
	for _, layer := range layers {
		plain, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for archive := tar.NewReader(plain); ; {
			header, err := archive.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			if _, twice := files[header.Name]; twice {
				t.Errorf("%s is there twice", header.Name)
			}
			files[header.Name] = member{header, string(content)}
		}
		_ = plain.Close()
	}
	return files
}

// Every authority of the list parses and is one, and there are as many as Mozilla has, more or less.
func TestCertificateAuthorities(t *testing.T) {
	rest, count := []byte(certificateAuthorities()), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if !certificate.IsCA {
			t.Errorf("%s is no authority", certificate.Subject)
		}
		count++
	}
	if len(rest) > 0 || count < 80 {
		t.Errorf("%d authorities and %d bytes of something else; want 80 or more, and none", count, len(rest))
	}
}

func TestArchiveIsReproducible(t *testing.T) {
	r := testRelease(t)
	for _, f := range flavours {
		var archives [2][]byte
		for i := range archives {
			index, err := f.index(r)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), fmt.Sprint(i), "image.tar")
			if err := writeArchive(path, "name:tag", index, r.created); err != nil {
				t.Fatal(err)
			}
			if archives[i], err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(archives[0], archives[1]) {
			t.Errorf("%s: two archives of the same differ", f.name)
		}
	}
}

func TestBillOfMaterials(t *testing.T) {
	r := testRelease(t)
	info, err := buildinfo.ReadFile(r.binary("arm64"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bom.json")
	if err := writeBillOfMaterials(path, r, r.binary("arm64")); err != nil {
		t.Fatal(err)
	}
	text, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(text, cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	want := []string{"pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}
	for _, m := range info.Deps {
		want = append(want, "pkg:golang/"+m.Path+"@"+m.Version)
	}
	var got []string
	for _, c := range *bom.Components {
		got = append(got, c.PackageURL)
	}
	if !slices.Equal(got, want) {
		t.Errorf("parts\n%q; want those of the binary\n%q", got, want)
	}
	if c := bom.Metadata.Component; c.Version != r.version || len(*c.Hashes) != 1 {
		t.Errorf("the whole is %+v; want version %s and a hash", c, r.version)
	}
}

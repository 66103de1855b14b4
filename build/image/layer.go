package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A file is one of a layer. All belong to root, who alone may write them.
type file struct {
	name       string
	mode       int64
	kind       byte
	content    []byte
	capability fileCapability
}

func directory(name string) file { return file{name: name + "/", mode: 0o755, kind: tar.TypeDir} }

func text(name, content string) file {
	return file{name: name, mode: 0o644, kind: tar.TypeReg, content: []byte(content)}
}

// fromDisk is a program of this machine.
func fromDisk(name, path string, capability fileCapability) (file, error) {
	content, err := os.ReadFile(path)
	return file{name: name, mode: 0o755, kind: tar.TypeReg, content: content, capability: capability}, err
}

// A fileCapability is the set of capabilities that a process gains by executing a file, as a bit mask.
type fileCapability uint32

// bindService is CAP_NET_BIND_SERVICE: it lets a server that is not root have port 53.
const bindService fileCapability = 1 << 10

// attribute is the value of the extended attribute security.capability, struct vfs_cap_data of linux/capability.h: the
// set is permitted, and effective at once, as the server does not ask for it.
func (c fileCapability) attribute() string {
	const revision2, effective = 0x02000000, 0x000001
	var value []byte
	for _, word := range []uint32{revision2 | effective, uint32(c), 0, 0, 0} { // permitted, inheritable, and the high halves of both
		value = binary.LittleEndian.AppendUint32(value, word)
	}
	return string(value)
}

// header describes the file in a tar archive.
func (f file) header(modified time.Time) *tar.Header {
	h := &tar.Header{Typeflag: f.kind, Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: modified, Format: tar.FormatPAX}
	if f.capability != 0 {
		// How tar archives, and so image layers, carry extended attributes.
		h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": f.capability.attribute()}
	}
	return h
}

// newLayer makes a compressed layer of files, folders before what is in them.
func newLayer(files []file, modified time.Time) (v1.Layer, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, f := range files {
		if err := w.WriteHeader(f.header(modified)); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer),
		tarball.WithCompressionLevel(gzip.BestCompression), tarball.WithCompressedCaching)
}

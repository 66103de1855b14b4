// Command image makes the container images of kubezone: an OCI image archive for linux/amd64 and linux/arm64 of each,
// and beside them a bill of materials for each binary. It needs no container runtime. `make image` runs it.
//
// The same binaries, version, revision and time give the same digests on any machine.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// A release is what all images of a run have in common.
type release struct {
	version  string
	revision string    // of the source, a full commit hash
	created  time.Time // of the revision, so that it does not depend on when the image is made
	binaries string    // the folder that holds linux-ARCH/coredns
}

// binary is where the program for an architecture is.
func (r release) binary(arch string) string {
	return filepath.Join(r.binaries, "linux-"+arch, "coredns")
}

// architectures are those that images are made for.
var architectures = []string{"amd64", "arm64"}

func run() error {
	var r release
	flag.StringVar(&r.version, "version", "", "the `version`, which is the tag too")
	flag.StringVar(&r.revision, "revision", "", "the `commit` that the binaries are built from")
	created := flag.Int64("created", 0, "when that commit was made, in `seconds` since 1970")
	flag.StringVar(&r.binaries, "binaries", "", "the `folder` that holds linux-amd64/coredns and linux-arm64/coredns")
	out := flag.String("out", "", "the `folder` to write to")
	flag.Parse()
	if r.version == "" || r.binaries == "" || *out == "" || flag.NArg() > 0 {
		return fmt.Errorf("arguments %q: want -version, -revision, -created, -binaries and -out", os.Args[1:])
	}
	r.created = time.Unix(*created, 0).UTC()
	for _, f := range flavours {
		index, err := f.index(r)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		path := filepath.Join(*out, f.name+".tar")
		if err := writeArchive(path, f.name+":"+r.version, index, r.created); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := describe(path, index); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	for _, arch := range architectures {
		path := filepath.Join(*out, "coredns-linux-"+arch+".cdx.json")
		if err := writeBillOfMaterials(path, r, r.binary(arch)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

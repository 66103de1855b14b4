package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"os"
	"strings"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
)

// writeBillOfMaterials writes what a binary is made of, as CycloneDX: the modules are those that the linker noted in the
// binary itself.
func writeBillOfMaterials(path string, r release, binary string) error {
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	program := cyclonedx.Component{
		BOMRef:  "pkg:golang/" + info.Main.Path,
		Type:    cyclonedx.ComponentTypeApplication,
		Name:    "kubezone",
		Version: r.version,
		Hashes:  &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		Properties: properties("revision", r.revision, "package", info.Path, "os", setting(info, "GOOS"),
			"arch", setting(info, "GOARCH")),
	}
	// The standard library is in every Go binary, and most advisories are about it.
	parts := []cyclonedx.Component{module("std", strings.TrimPrefix(info.GoVersion, "go"), "")}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		parts = append(parts, module(m.Path, m.Version, m.Sum))
	}
	var refs []string
	for _, p := range parts {
		refs = append(refs, p.BOMRef)
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Timestamp: r.created.Format(time.RFC3339), Component: &program}
	bom.Components = &parts
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: program.BOMRef, Dependencies: &refs}}

	out, err := os.Create(path)
	if err != nil {
		return err
	}
	// A version that scanners have learned to read.
	err = cyclonedx.NewBOMEncoder(out, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cyclonedx.SpecVersion1_6)
	if err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// module is a Go module as a part; sum is what go.sum says of it.
func module(path, version, sum string) cyclonedx.Component {
	purl := "pkg:golang/" + path + "@" + version
	c := cyclonedx.Component{BOMRef: purl, Type: cyclonedx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: purl}
	if sum != "" {
		c.Properties = properties("sum", sum)
	}
	return c
}

// properties makes a list out of names and values in turn.
func properties(pairs ...string) *[]cyclonedx.Property {
	var list []cyclonedx.Property
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, cyclonedx.Property{Name: "go:" + pairs[i], Value: pairs[i+1]})
	}
	return &list
}

func setting(info *buildinfo.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

package main

import (
	"encoding/pem"
	"strings"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// certificateAuthorities are those of Mozilla's list, in PEM, for forwarding over TLS. They come as a Go module, not as
// Debian's package: go.sum pins them, any machine gets the same, and what updates modules updates them.
//
// PEM cannot say that an authority counts only under conditions, such as certificates up to a date. Those are left out.
func certificateAuthorities() string {
	var text strings.Builder
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	return text.String()
}

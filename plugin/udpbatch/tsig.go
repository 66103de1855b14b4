//go:build linux

package udpbatch

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"

	"github.com/miekg/dns"
)

// A keyring holds TSIG secrets in base64, by the canonical name of the key. It
// implements dns.TsigProvider, with the errors that the tsig plugin tells apart.
type keyring map[string]string

var digests = map[string]func() hash.Hash{
	dns.HmacSHA1:   sha1.New,
	dns.HmacSHA224: sha256.New224,
	dns.HmacSHA256: sha256.New,
	dns.HmacSHA384: sha512.New384,
	dns.HmacSHA512: sha512.New,
}

// Generate returns the MAC of what t signs (RFC 8945 section 4.3.3).
func (k keyring) Generate(message []byte, t *dns.TSIG) ([]byte, error) {
	secret, ok := k[t.Hdr.Name]
	if !ok {
		return nil, dns.ErrSecret
	}
	key, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		return nil, err
	}
	digest, ok := digests[dns.CanonicalName(t.Algorithm)]
	if !ok {
		return nil, dns.ErrKeyAlg
	}
	h := hmac.New(digest, key)
	h.Write(message)
	return h.Sum(nil), nil
}

// Verify checks the MAC in t.
func (k keyring) Verify(message []byte, t *dns.TSIG) error {
	want, err := k.Generate(message, t)
	if err != nil {
		return err
	}
	got, err := hex.DecodeString(t.MAC)
	if err != nil {
		return err
	}
	if !hmac.Equal(want, got) {
		return dns.ErrSig
	}
	return nil
}

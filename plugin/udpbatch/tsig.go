//go:build linux

package udpbatch

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"hash"

	"github.com/kubezone/kubezone/plugin/internal/wire"

	"github.com/miekg/dns"
)

// A signature is what a writer knows of a query's TSIG record, and how it packs
// and signs the replies. It is the part of dns.ResponseWriter that does not
// depend on how they are sent.
type signature struct {
	secrets    keyring
	status     error
	requestMAC string
	timersOnly bool
}

// TsigStatus returns what was found of the query's signature.
func (s *signature) TsigStatus() error { return s.status }

// TsigTimersOnly makes the next replies be signed as continued ones.
func (s *signature) TsigTimersOnly(only bool) { s.timersOnly = only }

// ConnectionState returns nil: there is no TLS.
func (s *signature) ConnectionState() *tls.ConnectionState { return nil }

// pack packs a reply, and signs it if it says so. It keeps nothing of m. What it
// returns is in buffer, if it fits.
func (s *signature) pack(m *dns.Msg, buffer []byte) ([]byte, error) {
	if packed, ok := wire.Pack(m, buffer); ok { // no record of it is a TSIG
		return packed, nil
	}
	if m.IsTsig() == nil {
		return m.PackBuffer(buffer)
	}
	packed, mac, err := dns.TsigGenerateWithProvider(m, s.secrets, s.requestMAC, s.timersOnly)
	if err == nil {
		s.requestMAC = mac
	}
	return packed, err
}

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

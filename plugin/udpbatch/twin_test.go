//go:build linux

package udpbatch

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	testKey    = "key.example.org."
	testSecret = "c2VjcmV0IHNlY3JldCBzZWNyZXQ="
)

// The ordinary server is the slow twin: whatever it makes of a packet, we do.
func TestAnswersLikeTheOrdinaryServer(t *testing.T) {
	port, twinPort := freePort(t), freePort(t)
	const block = ".:%d {\nbind 127.0.0.1\n%s\ntsig {\nsecret " + testKey + " " + testSecret + "\n}\nanswer update\n}\n"
	start(t, fmt.Sprintf(block+block, port, directive, twinPort, ""))
	e := listenerOf(t, fmt.Sprintf("127.0.0.1:%d", port))

	packets := hostilePackets(t)
	before := metric(t, "packets_total", e.address, "own")
	ours, twins := exchange(t, port, packets), exchange(t, twinPort, packets)
	if n := metric(t, "packets_total", e.address, "own") - before; n < float64(len(packets)) {
		t.Errorf("%v of %d packets came to our sockets; want all", n, len(packets))
	}
	same(t, packets, ours, twins, func(p hostile) (our, twin []byte) {
		return exchange(t, port, []hostile{p})[0], exchange(t, twinPort, []hostile{p})[0]
	})
}

// The same over TCP, where messages may be of any length.
func TestAnswersLikeTheOrdinaryServerByTCP(t *testing.T) {
	port, twinPort := freePort(t), freePort(t)
	const block = ".:%d {\nbind 127.0.0.1\ntimeouts {\nread 1s\n}\n%s\ntsig {\nsecret " + testKey + " " + testSecret + "\n}\nanswer update\n}\n"
	start(t, fmt.Sprintf(block+block, port, directive, twinPort, ""))
	e := listenerOf(t, fmt.Sprintf("127.0.0.1:%d", port))

	packets := hostilePackets(t)
	before := settledConnections(t, e)
	ours, twins := exchangeByTCP(t, port, packets), exchangeByTCP(t, twinPort, packets)
	if n := metric(t, "connections_total", e.address) - before; n != float64(len(packets)) {
		t.Errorf("%v of %d connections came to our socket; want all", n, len(packets))
	}
	same(t, packets, ours, twins, func(p hostile) (our, twin []byte) {
		return exchangeByTCP(t, port, []hostile{p})[0], exchangeByTCP(t, twinPort, []hostile{p})[0]
	})
}

// same compares replies. Where they differ, both are asked again: a signature
// has the time in it, in seconds.
func same(t *testing.T, packets []hostile, ours, twins [][]byte, again func(hostile) (our, twin []byte)) {
	t.Helper()
	for i, p := range packets {
		our, twin := ours[i], twins[i]
		for range 3 {
			if bytes.Equal(our, twin) {
				break
			}
			our, twin = again(p)
		}
		if !bytes.Equal(our, twin) {
			t.Errorf("%s:\nquery %s\n ours %s\ntwins %s", p.name, hex.EncodeToString(p.packet), hex.EncodeToString(our), hex.EncodeToString(twin))
		}
	}
}

type hostile struct {
	name   string
	packet []byte
}

// hostilePackets are messages, good, bad and broken.
func hostilePackets(t *testing.T) []hostile {
	t.Helper()
	var all []hostile
	add := func(name string, packet []byte) { all = append(all, hostile{name, packet}) }
	pack := func(m *dns.Msg) []byte {
		packed, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return packed
	}
	question := func(name string, change func(*dns.Msg)) []byte {
		m := new(dns.Msg).SetQuestion(name, dns.TypeTXT)
		change(m)
		return pack(m)
	}
	good := question("plain.example.org.", func(*dns.Msg) {})

	for _, name := range []string{"who", "many", "panic", "refused", "raw", "tsig"} {
		add(name, question(name+".example.org.", func(*dns.Msg) {}))
		for _, size := range []uint16{0, 512, 1232, 4096, 65535} {
			add(fmt.Sprintf("%s, EDNS %d", name, size), question(name+".example.org.", func(m *dns.Msg) { m.SetEdns0(size, true) }))
		}
	}
	add("EDNS version 1", question("plain.example.org.", func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }))
	add("class CH", question("plain.example.org.", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }))
	add("no question", question("plain.example.org.", func(m *dns.Msg) { m.Question = nil }))
	add("two questions", question("plain.example.org.", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }))
	add("a response", question("plain.example.org.", func(m *dns.Msg) { m.Response = true }))
	for opcode := range 16 {
		add(fmt.Sprintf("opcode %d", opcode), question("plain.example.org.", func(m *dns.Msg) { m.Opcode = opcode }))
		add(fmt.Sprintf("opcode %d, no question", opcode), question("plain.example.org.", func(m *dns.Msg) { m.Opcode, m.Question = opcode, nil }))
	}
	a := &dns.A{Hdr: dns.RR_Header{Name: "a.example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 1)}
	for n := range 4 {
		for section, field := range map[string]func(*dns.Msg) *[]dns.RR{
			"answer":     func(m *dns.Msg) *[]dns.RR { return &m.Answer },
			"authority":  func(m *dns.Msg) *[]dns.RR { return &m.Ns },
			"additional": func(m *dns.Msg) *[]dns.RR { return &m.Extra },
		} {
			add(fmt.Sprintf("%d records of %s", n, section), question("plain.example.org.", func(m *dns.Msg) {
				for range n {
					*field(m) = append(*field(m), a)
				}
			}))
		}
	}
	signed := func(key, algorithm string, at time.Time) []byte {
		m := new(dns.Msg).SetQuestion("tsig.example.org.", dns.TypeTXT)
		m.SetTsig(key, algorithm, 300, at.Unix())
		packed, _, err := dns.TsigGenerate(m, testSecret, "", false)
		if err != nil {
			t.Fatal(err)
		}
		return packed
	}
	for _, algorithm := range []string{dns.HmacSHA1, dns.HmacSHA224, dns.HmacSHA256, dns.HmacSHA384, dns.HmacSHA512} {
		add("signed by "+algorithm, signed(testKey, algorithm, time.Now()))
	}
	add("signed, unknown key", signed("other.example.org.", dns.HmacSHA256, time.Now()))
	add("signed, long ago", signed(testKey, dns.HmacSHA256, time.Now().Add(-time.Hour)))
	forged := signed(testKey, dns.HmacSHA256, time.Now())
	forged[len(forged)-10] ^= 1
	add("signed, forged", forged)

	add("nothing", nil)
	for n := range len(good) {
		add(fmt.Sprintf("cut after %d", n), good[:n])
	}
	for _, n := range []int{511, 512, 513, 4096, 65507} { // the most that fits in an IPv4 packet is 65,507
		add(fmt.Sprintf("padded to %d", n), append(bytes.Clone(good), make([]byte, n-len(good))...))
	}
	add("a name that points at itself", append(bytes.Clone(good[:headerSize]), 0xc0, 0x0c, 0, 16, 0, 1))
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		p := bytes.Clone(good)
		for range 1 + i%4 {
			p[random.IntN(len(p))] = byte(random.Uint32())
		}
		add(fmt.Sprintf("changed at random, %d", i), p)
	}
	return all
}

// exchange sends packets, each from a socket of its own, and returns the
// replies; nil for none. Those from the same server arrive together, so all are
// waited for at once.
func exchange(t *testing.T, port int, packets []hostile) [][]byte {
	t.Helper()
	conns := make([]*net.UDPConn, len(packets))
	for i, p := range packets {
		conn, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(p.packet); err != nil {
			t.Fatal(err)
		}
		conns[i] = conn
		if i%16 == 0 {
			ask(t, fmt.Sprintf("127.0.0.1:%d", port), "plain.example.org. TXT") // not more at a time than a socket holds
		}
	}
	deadline := time.Now().Add(500 * time.Millisecond)
	replies := make([][]byte, len(packets))
	for i, conn := range conns {
		reply := make([]byte, dns.MaxMsgSize)
		_ = conn.SetReadDeadline(deadline)
		if n, err := conn.Read(reply); err == nil {
			replies[i] = reply[:n]
		}
	}
	return replies
}

// exchangeByTCP sends packets, each on a connection of its own, and returns what
// comes before the server closes it.
func exchangeByTCP(t *testing.T, port int, packets []hostile) [][]byte {
	t.Helper()
	replies := make([][]byte, len(packets))
	var running sync.WaitGroup
	for i, p := range packets {
		c := connect(t, fmt.Sprintf("127.0.0.1:%d", port), "")
		c.send(frame(p.packet))
		_ = c.CloseWrite()
		running.Go(func() { replies[i], _ = io.ReadAll(c) })
	}
	running.Wait()
	return replies
}

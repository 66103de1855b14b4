//go:build linux

package udpbatch

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// inNamespace tells a test that it runs in a network of its own.
const inNamespace = "UDPBATCH_TEST_NAMESPACE"

// namespaced runs the test again in a process with a network of its own, and
// returns true there. It has a loopback interface that is up, and nothing else.
func namespaced(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		run(t, "ip", "link", "set", "lo", "up")
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("a network of its own needs root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Fatal("a network of its own needs the command ip: install iproute2")
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), inNamespace+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	output, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, output)
	}
	return false
}

func run(t *testing.T, name string, arguments ...string) {
	t.Helper()
	if output, err := exec.CommandContext(t.Context(), name, arguments...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, arguments, err, output)
	}
}

// On a host with several addresses of both families the reply comes from the
// one that was asked, where the route to the client prefers the client's own.
func TestSourceAddressOnAHostWithSeveral(t *testing.T) {
	if !namespaced(t) {
		return
	}
	hosts := []string{"10.1.0.1", "10.1.0.2", "10.2.0.1", "fd00:1::1", "fd00:1::2", "fd00:2::1"}
	clients := []string{"10.3.0.1", "fd00:3::1"}
	for _, host := range append(hosts, clients...) {
		run(t, "ip", "address", "add", host, "dev", "lo", "nodad")
	}
	for _, bind := range []string{"", "bind 0.0.0.0\n", "bind ::\n"} {
		t.Run(bind, func(t *testing.T) {
			port := freePort(t)
			start(t, fmt.Sprintf(".:%d {\n%sudpbatch\nanswer\n}", port, bind))
			address := fmt.Sprintf(":%d", port)
			if bind != "" {
				address = net.JoinHostPort(bind[len("bind "):len(bind)-1], fmt.Sprint(port))
			}
			e := listenerOf(t, address)
			before := metric(t, "packets_total", e.address, "ordinary")
			connections := settledConnections(t, e)
			for _, asked := range append(hosts, "127.0.0.1", "127.0.0.2", "::1") {
				if bind == "bind 0.0.0.0\n" && net.ParseIP(asked).To4() == nil {
					continue
				}
				client := clients[0]
				if net.ParseIP(asked).To4() == nil {
					client = clients[1]
				}
				for _, name := range []string{"plain", "sleep-10ms", "many"} { // in the lane, in a worker perhaps, and a long one
					from, err := sourceOf(client, asked, port, name+".example.org.")
					if err != nil {
						t.Errorf("%s at %s: %v", name, asked, err)
					} else if from != net.JoinHostPort(asked, fmt.Sprint(port)) {
						t.Errorf("%s at %s: the reply came from %s", name, asked, from)
					}
				}
				// By TCP the reply has the right address, or none arrives.
				c := connect(t, net.JoinHostPort(asked, fmt.Sprint(port)), client)
				c.ask("plain.example.org.", 1)
				c.wants(1)
				connections++
			}
			if n := metric(t, "connections_total", e.address); n != connections {
				t.Errorf("%v of %v connections came to our socket; want all", n, connections)
			}
			if n := metric(t, "packets_total", e.address, "ordinary") - before; n != 0 {
				t.Errorf("%v queries were served the ordinary way; want 0", n)
			}
		})
	}
}

// settledConnections is how many connections came to the socket, once those are in by which it was looked for.
func settledConnections(t *testing.T, e *listener) float64 {
	t.Helper()
	last := -1.0
	eventually(t, "an end of the search for the socket", func() bool {
		e.group.Lock() // which the search holds
		defer e.group.Unlock()
		before := last
		time.Sleep(100 * time.Millisecond)
		last = metric(t, "connections_total", e.address)
		return last == before
	})
	return last
}

// sourceOf asks from a socket that takes replies from everywhere, and returns
// where the reply came from.
func sourceOf(client, host string, port int, name string) (string, error) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(client)})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	query, err := new(dns.Msg).SetQuestion(name, dns.TypeTXT).Pack()
	if err != nil {
		return "", err
	}
	if _, err := conn.WriteTo(query, &net.UDPAddr{IP: net.ParseIP(host), Port: port}); err != nil {
		return "", err
	}
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, from, err := conn.ReadFromUDPAddrPort(make([]byte, dns.MaxMsgSize))
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(from.Addr().Unmap().String(), fmt.Sprint(from.Port())), nil
}

package faults

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/harness"
)

// A balancer is one address behind which replicas serve, as a Service is: a query goes to one that is ready.
type balancer struct {
	conn     net.PacketConn
	replicas []*replica
	turn     atomic.Uint64
	running  sync.WaitGroup
}

// A replica is a place behind the balancer, that one server after the other takes.
type replica struct {
	server atomic.Pointer[harness.Server]
	ready  atomic.Bool
}

func startBalancer(t *testing.T, replicas ...*replica) *balancer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{conn: conn, replicas: replicas}
	b.running.Go(b.run)
	t.Cleanup(func() {
		_ = conn.Close()
		b.running.Wait()
	})
	return b
}

func (b *balancer) run() {
	for {
		buffer := make([]byte, dns.DefaultMsgSize)
		n, from, err := b.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		b.running.Go(func() {
			if reply := b.exchange(buffer[:n]); reply != nil {
				_, _ = b.conn.WriteTo(reply, from) // the client tells what it got
			}
		})
	}
}

func (b *balancer) exchange(query []byte) []byte {
	turn := b.turn.Add(1) // once, as other queries take theirs meanwhile
	for i := range b.replicas {
		r := b.replicas[(turn+uint64(i))%uint64(len(b.replicas))]
		if !r.ready.Load() {
			continue
		}
		conn, err := net.Dial("udp", r.server.Load().DNS)
		if err != nil {
			return nil
		}
		defer conn.Close()
		if _, err := conn.Write(query); err != nil {
			return nil
		}
		reply := make([]byte, dns.MaxMsgSize)
		_ = conn.SetReadDeadline(time.Now().Add(answerTime)) // no error on a connection that is open
		n, err := conn.Read(reply)
		if err != nil {
			return nil
		}
		return reply[:n]
	}
	return nil
}

// Row 17: two replicas take turns at ending and starting behind one address, and nobody notices.
func TestReplicasTakeTurns(t *testing.T) {
	for _, test := range []struct {
		id, fault string
		serve     func(*testing.T, *rig, string) (address string, first, second *replica, start func(*replica) *harness.Server)
	}{
		{"17a", "SIGTERM of two replicas behind a load balancer", behindBalancer},
		{"17b", "SIGTERM of two replicas on one port", onOnePort},
	} {
		for _, binary := range []string{ours, stock} {
			if _, err := os.Stat(binary); err != nil {
				continue
			}
			name := map[string]string{ours: "kubezone", stock: "stock"}[binary]
			t.Run("row "+test.id+", "+test.fault+", "+name, func(t *testing.T) {
				r := row{id: test.id, fault: test.fault}
				g := newEmptyRig(t, cluster, "turns-"+test.id+"-"+name, 0)
				g.create("kept")
				g.headless("set", "192.0.2.1", "192.0.2.2")
				g.truth.write(g.question("missing"), "NXDOMAIN", func() {})
				address, first, second, start := test.serve(t, g, binary)
				s := &side{name: name, server: &harness.Server{}}
				*s.server = *first.server.Load()
				s.server.DNS = address
				s.client = startClient(t, s.server, g.truth)
				list := askings(t, s.server, g.truth.questions())
				load := startLoad(t, address, list, 1000)
				for turn := range turns() {
					takeTurns(g, name, turn, []*replica{first, second}[turn%2], start)
				}
				load.end()
				s.client.stop()
				s.sum = s.client.sum()
				s.sum.add(load.tally())
				record(r, name, s.sum)
				if bad := s.sum.wrong + s.sum.lost + s.sum.servfail; binary == ours && bad > 0 {
					t.Errorf("%d wrong, %d lost, %d SERVFAIL of %d; want none", s.sum.wrong, s.sum.lost, s.sum.servfail, s.sum.asked)
				}
			})
		}
	}
}

// turns is how often a server is ended.
func turns() int {
	if *long {
		return 20
	}
	return 2
}

// takeTurns ends the server of a replica, and starts another in its place.
func takeTurns(g *rig, name string, turn int, r *replica, start func(*replica) *harness.Server) {
	g.Helper()
	s := r.server.Load()
	began := time.Now()
	s.Signal(syscall.SIGTERM)
	harness.Eventually(g, time.Second, func() error {
		if status, _, err := s.Get(s.Ready + "/ready"); err == nil && status == http.StatusOK {
			return fmt.Errorf("ready: %d after SIGTERM", status)
		}
		return nil
	})
	r.ready.Store(false)
	if name == "kubezone" && r.alone(s) {
		// Until it ends it follows the API server.
		created := fmt.Sprintf("during-%d", turn)
		g.create(created)
		s.ExpectWithin(g, time.Second, g.question(created), g.truth.now(g.question(created)))
	}
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		g.Fatal("it does not end")
	}
	g.Logf("ended %.1fs after SIGTERM", time.Since(began).Seconds())
	r.server.Store(start(r))
	r.ready.Store(true)
}

// alone tells whether what is asked of the server's address goes to it.
func (r *replica) alone(s *harness.Server) bool { return !strings.HasSuffix(s.DNS, sharedPort) }

// lameduck is for how long a server goes on after SIGTERM, in the Corefiles of row 17.
var lameduck = strings.Replace(corefile, "health :{$HEALTH}", "health :{$HEALTH} {\n\t\tlameduck 2s\n\t}", 1)

func behindBalancer(t *testing.T, g *rig, binary string) (string, *replica, *replica, func(*replica) *harness.Server) {
	start := replicas(t, g, binary, lameduck)
	first, second := new(replica), new(replica)
	for _, r := range []*replica{first, second} {
		r.server.Store(start(r))
		r.ready.Store(true)
	}
	return startBalancer(t, first, second).conn.LocalAddr().String(), first, second, start
}

// sharedPort is that on which both replicas of row 17b listen; the kernel spreads the clients over them.
const sharedPort = ":9953"

func onOnePort(t *testing.T, g *rig, binary string) (string, *replica, *replica, func(*replica) *harness.Server) {
	text := strings.Replace(lameduck, ".:{$DNS}", "."+sharedPort, 1)
	if binary == ours {
		// The kernel does not ask who is ready: ours, whose port is open from the start, must know all from the start. And
		// it is udpbatch that reads its sockets empty before it closes them.
		text = strings.Replace(text, "#options", "snapshot "+t.TempDir()+"/snapshot 1s", 1)
		text = strings.Replace(text, "errors\n", "errors\n\tudpbatch\n", 1)
	}
	onPort := replicas(t, g, binary, text)
	start := func(r *replica) *harness.Server {
		s := onPort(r)
		s.DNS = "127.0.0.1" + sharedPort
		return s
	}
	first, second := new(replica), new(replica)
	first.server.Store(start(first))
	second.server.Store(start(second))
	return "127.0.0.1" + sharedPort, first, second, start
}

// replicas returns what starts a server and waits until it is ready.
func replicas(t *testing.T, g *rig, binary, text string) func(*replica) *harness.Server {
	p := startProxy(t, g.cluster)
	kubeconfig, _ := g.cluster.Kubeconfig(t, p.url, "kube-system", "coredns")
	return func(*replica) *harness.Server {
		s := startServer(t, binary, text, "KUBECONFIG="+kubeconfig, "UPSTREAM="+g.resolver)
		if strings.Contains(text, sharedPort) {
			s.DNS = "127.0.0.1" + sharedPort
		}
		s.AwaitReady(t)
		return s
	}
}

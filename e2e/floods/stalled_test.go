package floods

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubezone/kubezone/e2e/harness"
)

const (
	stalling = 10_000 // clients
	files    = 1024   // that the server may have open: what most systems begin with

	// A client whose connection was closed comes again, after up to:
	comesAgain = 20 * time.Second
)

// stall opens connections that announce a long query and send five octets of it, from a hundred addresses. It returns
// when all have tried; they go on until ctx ends, and running then waits for them.
func stall(ctx context.Context, server *harness.Server, clients int, running *sync.WaitGroup) (open *atomic.Int64) {
	open = new(atomic.Int64)
	var tried sync.WaitGroup
	slots := make(chan struct{}, 64) // dials at a time
	for n := range clients {
		dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(n/100%100), byte(1+n%100))}}
		tried.Add(1)
		running.Go(func() {
			for first := true; ctx.Err() == nil; first = false {
				slots <- struct{}{}
				conn, err := dialer.DialContext(ctx, "tcp", server.DNS)
				<-slots
				if first {
					tried.Done()
				}
				if err == nil {
					open.Add(1)
					untilClosed(ctx, conn)
					open.Add(-1)
				}
				select {
				case <-ctx.Done():
				case <-time.After(rand.N(comesAgain)):
				}
			}
		})
	}
	tried.Wait()
	return open
}

func untilClosed(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := conn.Write([]byte{0xff, 0xff, 1, 2, 3, 4, 5}); err == nil {
		_, _ = conn.Read(make([]byte, 1))
	}
}

// Ten thousand clients that stall neither move UDP nor keep others from TCP, with the memory of a pod and few files.
func TestStalledClients(t *testing.T) {
	clients := stalling
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < stalling+1000 {
		clients = int(limit.Cur) - 1000
		t.Logf("only %d clients: this process may open %d files", clients, limit.Cur)
	}
	var figures []figure
	for _, s := range sides(t)[:2] { // shed is about UDP
		t.Run(s.name, func(t *testing.T) {
			server := s.start(t, files)
			measure := func() (udp, tcp *probe) {
				udp, tcp = new(probe), new(probe)
				end := make(chan struct{})
				var probing sync.WaitGroup
				probing.Go(func() { udp.run(server, "udp", 5*time.Millisecond, end) })
				probing.Go(func() { tcp.run(server, "tcp", 50*time.Millisecond, end) })
				time.Sleep(*lasting)
				close(end)
				probing.Wait()
				return udp, tcp
			}
			quietUDP, _ := measure()
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			open := stall(ctx, server, clients, &running)
			cpu := server.CPU()
			udp, tcp := measure()
			cpu = server.CPU() - cpu
			held := open.Load()
			cancel()
			running.Wait()
			peak := server.Memory("VmHWM")
			figures = append(figures, figure{s.name, fmt.Sprintf(
				"UDP %v (quiet: %v); new TCP clients %v; %d held open; peak RSS %d MiB; CPU %.0f%% of a core",
				udp, quietUDP, tcp, held, peak>>20, 100*cpu.Seconds()/lasting.Seconds())})
			if !s.ours {
				return
			}
			if server.Ended() {
				t.Error("the server has ended")
			}
			if udp.lost() > 0 {
				t.Errorf("%d of %d UDP queries were lost; want none", udp.lost(), udp.asked)
			}
			if tcp.lost() > tcp.asked/50 {
				t.Errorf("%d of %d TCP queries were not answered; want nearly all to be", tcp.lost(), tcp.asked)
			}
			if peak > memoryLimit {
				t.Errorf("%d MiB of memory; want at most %d", peak>>20, memoryLimit>>20)
			}
		})
	}
	table(t, fmt.Sprintf("%d stalled TCP clients, a memory limit of %d MiB and %d files", clients, memoryLimit>>20, files), figures)
}

package nodelocal

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/kubezone/kubezone/plugin/internal/corefile"
)

// inFlight counts the queries at work in this process.
var inFlight atomic.Int64

// A claim is what one Corefile asks of the node, by one directive or by several
// that are equal. It holds a keeper from its start to its end.
type claim struct {
	cfg      config
	at       corefile.Place // of the first directive
	plan     plan
	proxy    proxy
	selfName string
	blocks   []*dnsserver.Config
	caddy    *caddy.Instance // nil where there is none around the directive

	keeper     *keeper
	left       *keeper // that has ended with the process, if nobody else claims it
	restarting bool    // a reload has begun
}

// keepers are those of this process: one, but for a moment in a reload that
// changes what is asked of the node.
var keepers struct {
	mu   sync.Mutex // guards list, and claims of each
	list []*keeper
}

// newClaim works out what a directive comes to on this node.
func newClaim(c *caddy.Controller, cfg config, at corefile.Place, port uint16) *claim {
	cl := &claim{cfg: cfg, at: at}
	how := cfg.redirect
	effective := cfg
	if how == redirectAuto {
		cl.proxy = findProxy()
		how, effective = cl.proxy.decide(cfg)
	}
	var extra []uint16
	if instances := caddy.Instances(); len(instances) > 0 {
		cl.caddy = instances[len(instances)-1] // caddy appends an instance before it sets it up
		extra = healthPorts(cl.caddy.Caddyfile(), effective.addresses)
	}
	cl.plan = newPlan(effective, how, port, extra)
	return cl
}

// explain says what was found and what that means.
func (cl *claim) explain() {
	if cl.cfg.redirect != redirectAuto {
		return
	}
	log.Infof("Found %s: redirect %s", cl.proxy, cl.plan.redirect)
	if left := without(cl.cfg.addresses, cl.plan.listen); len(left) > 0 && cl.plan.redirect == redirectNotrack {
		log.Warningf("%v cannot be served beside %s; have the kubelet name %v with --cluster-dns", left, cl.proxy, cl.plan.listen)
	}
	if text, ok := advice[cl.proxy]; ok {
		log.Warningf("Nothing is redirected beside %s: %s", cl.proxy, text)
	}
}

// start is called before the server opens its sockets, which needs the addresses.
// A reload that asks the same of the node goes on with the keeper that is there.
func (cl *claim) start() error {
	keepers.mu.Lock()
	defer keepers.mu.Unlock()
	for _, k := range keepers.list {
		if k.fits(cl) {
			k.claims = append(k.claims, cl)
			cl.keeper = k
			return nil
		}
	}
	cl.explain()
	k, err := newKeeper(cl)
	if err != nil {
		return cl.at.Errorf("%s: %w", directive, err)
	}
	k.claims = []*claim{cl}
	cl.keeper = k
	keepers.list = append(keepers.list, k)
	k.start()
	return nil
}

// serving tells whether queries for the addresses are answered.
func (cl *claim) serving() bool { return cl.keeper != nil && cl.keeper.serving() }

// handlersReady tells whether every plugin of the server blocks is ready, as far
// as plugins say.
func (cl *claim) handlersReady() bool {
	for _, block := range cl.blocks {
		for _, h := range block.Handlers() {
			if r, ok := h.(interface{ Ready() bool }); ok && h.Name() != directive && !r.Ready() {
				return false
			}
		}
	}
	return true
}

// A serverSource is a plugin that knows the servers behind a ClusterIP.
type serverSource interface {
	Servers(clusterIP netip.Addr) []netip.AddrPort
}

// servers are those behind the ClusterIPs, as plugins of the server blocks know
// them.
func (cl *claim) servers() []netip.AddrPort {
	var servers []netip.AddrPort
	for _, block := range cl.blocks {
		for _, h := range block.Handlers() {
			source, ok := h.(serverSource)
			if !ok {
				continue
			}
			for _, clusterIP := range without(cl.cfg.addresses, cl.cfg.ownAddresses()) {
				servers = append(servers, source.Servers(clusterIP)...)
			}
		}
	}
	return servers
}

func (cl *claim) onRestart() error {
	cl.restarting = true
	return nil
}

// onRestartFailed ends what the Corefile that failed has begun; it is told to the
// old one only.
func (cl *claim) onRestartFailed() error {
	cl.restarting = false
	for _, dead := range deadClaims() {
		dead.release((*keeper).stop)
	}
	return nil
}

// deadClaims are those of Corefiles that are not served.
func deadClaims() []*claim {
	keepers.mu.Lock()
	defer keepers.mu.Unlock()
	alive := caddy.Instances()
	var dead []*claim
	for _, k := range keepers.list {
		for _, cl := range k.claims {
			if cl.caddy != nil && !slices.Contains(alive, cl.caddy) {
				dead = append(dead, cl)
			}
		}
	}
	return dead
}

// onShutdown is called in a reload once the new servers run, and at the end of
// the process, when onFinalShutdown is too.
func (cl *claim) onShutdown() error {
	if cl.restarting {
		cl.release((*keeper).stop)
	}
	return nil
}

// onFinalShutdown is called before the servers stop, and before the pause of
// health's lameduck.
func (cl *claim) onFinalShutdown() error {
	cl.release(func(k *keeper) {
		k.leave()
		cl.left = k
	})
	return nil
}

// onLastShutdown is called when every other plugin has ended, and the servers
// have not stopped yet.
func (cl *claim) onLastShutdown() error {
	if cl.left != nil {
		cl.left.leaveAgain()
	}
	return nil
}

// release gives up the keeper, and has it end if nobody else claims it.
func (cl *claim) release(end func(*keeper)) {
	keepers.mu.Lock()
	k := cl.keeper
	cl.keeper = nil
	if k != nil {
		k.claims = slices.DeleteFunc(k.claims, func(other *claim) bool { return other == cl })
	}
	last := k != nil && len(k.claims) == 0
	if last {
		keepers.list = slices.DeleteFunc(keepers.list, func(other *keeper) bool { return other == k })
	}
	keepers.mu.Unlock()
	if last {
		end(k)
	}
}

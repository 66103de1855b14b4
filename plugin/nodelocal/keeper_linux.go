package nodelocal

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// heartbeat is how often the server asks itself. A third of switchTimeout
	// leaves time for an answer that is slow once.
	heartbeat = time.Second
	// impatience is how often it does before it has been switched to.
	impatience = 50 * time.Millisecond
	// drain is how long queries that were sent here before they were led
	// elsewhere may take to be read from the sockets.
	drain = 250 * time.Millisecond
	// firstQuery is how long a client that is connected may take to ask. Some
	// never do, as they keep the connection for later.
	firstQuery = time.Second
	// grace is how long a query that is at work is waited for, as CoreDNS does.
	grace = 5 * time.Second
)

// A keeper keeps addresses and rules on the node as they should be, and queries
// coming here for as long as they are answered.
type keeper struct {
	plan     plan
	device   string // that holds the addresses
	fallback []netip.AddrPort
	fixed    []netip.Addr // addresses that the fallback is for
	selfName string
	name     string // of the table

	cancel  context.CancelFunc
	running sync.WaitGroup

	claims []*claim // guarded by keepers.mu

	succeeded []netip.Addr // that another instance had when this one left

	// What follows belongs to run alone.
	table     *table
	on        map[netip.Addr]bool // switched
	opened    bool                // has been ready once
	trouble   string              // that was logged last
	fallenFor time.Time           // when the fallback was last renewed

	reached atomic.Bool // at all addresses somebody of ours answers
}

// newKeeper puts the addresses on the node, which is all that has to be done
// before the server opens its sockets.
func newKeeper(cl *claim) (*keeper, error) {
	k := &keeper{
		plan: cl.plan, device: cl.cfg.device, fallback: cl.cfg.fallback, selfName: cl.selfName,
		name: tablePrefix + rand.Text()[:8],
		on:   map[netip.Addr]bool{},
	}
	k.fixed = without(cl.plan.listen, without(cl.cfg.addresses, cl.cfg.ownAddresses()))
	if _, err := k.ensureAddresses(); err != nil {
		return nil, err
	}
	return k, nil
}

// fits tells whether the keeper does what a claim asks for.
func (k *keeper) fits(cl *claim) bool {
	return len(k.claims) > 0 && k.claims[0].cfg.equal(cl.cfg) && k.selfName == cl.selfName &&
		k.plan.redirect == cl.plan.redirect && k.plan.port == cl.plan.port &&
		slices.Equal(k.plan.extra, cl.plan.extra) && slices.Equal(k.plan.listen, cl.plan.listen)
}

// start is called before the server opens its sockets. The table is there from
// the first packet that the server sends to itself.
func (k *keeper) start() {
	if k.plan.redirect != redirectNone {
		k.ensureTable()
	}
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	changes := make(chan struct{}, 1)
	k.running.Go(func() { watch(ctx, changes) })
	k.running.Go(func() { k.run(ctx, changes) })
}

// halt ends the goroutines. The rules stay, the switch for as long as its time.
func (k *keeper) halt() {
	k.cancel()
	k.running.Wait()
}

// stop takes away all at once. The addresses stay: without rules they do no harm,
// and packets that are on their way still find them.
func (k *keeper) stop() {
	k.halt()
	k.withdraw()
	if k.table != nil {
		if err := k.table.close(); err != nil {
			log.Warningf("Cannot remove table %s: %v", k.name, err)
		}
	}
}

// leave makes this server's end go unnoticed: new queries go elsewhere first, and
// those that are here are answered. The table stays until the process ends, so
// that late replies leave as they should.
func (k *keeper) leave() {
	k.halt()
	k.succeeded = k.succession()
	if len(k.succeeded) > 0 {
		log.Infof("Another instance serves %v: leading new queries there", k.succeeded)
		k.handOver(k.succeeded)
	}
	if k.table != nil {
		if err := k.table.switchOff(); err != nil {
			log.Warningf("Cannot switch queries to the ordinary path, where they go within %s: %v", switchTimeout, err)
		}
	}
	k.awaitQueries()
	k.withdraw()
}

// leaveAgain does so with what came here meanwhile: udpbatch has given its sockets
// up, and led connections to CoreDNS's, and the successor may have more addresses.
func (k *keeper) leaveAgain() {
	if k.handOverAgain(k.succession()) {
		k.awaitQueries()
	}
}

// awaitQueries waits until the queries that have been led here are answered, and
// a while for clients that have connected and not asked yet.
func (k *keeper) awaitQueries() {
	began := time.Now()
	time.Sleep(drain)
	for inFlight.Load() > 0 && time.Since(began) < grace || k.connected() && time.Since(began) < firstQuery {
		time.Sleep(drain / 10)
	}
}

// succession are the addresses that another instance has.
func (k *keeper) succession() (there []netip.Addr) {
	if k.plan.redirect == redirectNone {
		return nil
	}
	for _, a := range k.plan.listen {
		if is, err := othersActive(k.name, a); err == nil && is {
			there = append(there, a)
		}
	}
	return there
}

// withdraw takes the rules out of other people's chains.
func (k *keeper) withdraw() {
	for a := range k.on {
		switched.DeleteLabelValues(a.String())
	}
	if k.plan.redirect == redirectNone {
		return
	}
	foreign, err := listForeign()
	if err == nil {
		err = foreign.withdraw(k.name)
	}
	if err != nil {
		log.Warningf("Rules that accept DNS stay in the node's firewall: %v", err)
	}
}

// run asks at each heartbeat, and repairs after changes.
func (k *keeper) run(ctx context.Context, changes <-chan struct{}) {
	if k.plan.redirect != redirectNone {
		k.prepare()
	}
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
			k.repair()
		case <-next.C:
			began := time.Now()
			pause := heartbeat
			if !k.beat(ctx) {
				pause = impatience
			}
			next.Reset(max(0, pause-time.Since(began)))
		}
	}
}

// prepare makes room for our rules.
func (k *keeper) prepare() {
	if foreign, err := listForeign(); err != nil {
		log.Warning(err)
	} else if n, err := foreign.removeNodeCache(k.plan.listen); err != nil {
		log.Warningf("Rules of node-cache stay: %v", err)
	} else if n > 0 {
		log.Infof("Removed %d rules that node-cache left behind", n)
	}
	for _, command := range legacyNodeCache() {
		log.Warningf("node-cache left rules in iptables-legacy that take DNS from the ordinary path for ever; remove them with: %s", command)
	}
	k.repair()
}

// beat asks the server at each address and switches those that answer. It tells
// whether all do.
func (k *keeper) beat(ctx context.Context) bool {
	outcomes := make([]outcome, len(k.plan.listen))
	var all sync.WaitGroup
	for i, a := range k.plan.listen {
		all.Go(func() {
			q := selfQuery{server: netip.AddrPortFrom(a, k.plan.port), name: k.selfName}
			outcomes[i] = q.ask(ctx)
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return true
	}
	good := true
	for i, a := range k.plan.listen {
		selfQueries.WithLabelValues(a.String(), outcomes[i].String()).Inc()
		good = good && outcomes[i] != unanswered
	}
	k.opened = k.opened || k.ready()
	if k.opened {
		k.turn(outcomes)
	}
	k.reached.Store(k.opened && good)
	k.renewFallback()
	return good && k.opened
}

// ready tells whether every plugin that serves the addresses is. Until then the
// ordinary path has better answers.
func (k *keeper) ready() bool {
	keepers.mu.Lock()
	claims := slices.Clone(k.claims)
	keepers.mu.Unlock()
	return !slices.ContainsFunc(claims, func(cl *claim) bool { return !cl.handlersReady() })
}

// turn switches to this server what it answers at, and lets the rest go.
func (k *keeper) turn(outcomes []outcome) {
	if k.plan.redirect == redirectNone || !k.ensureTable() {
		return
	}
	var on []netip.Addr
	for i, a := range k.plan.listen {
		if outcomes[i] == answeredByUs {
			on = append(on, k.plan.switched(a)...)
		}
		if outcomes[i] == unanswered && k.on[a] {
			log.Warningf("No answer to ourselves at %s over UDP and TCP", a)
		}
	}
	if err := k.table.switchOn(on); err != nil {
		k.complain("Cannot switch queries here", err)
		_ = k.table.close()
		k.table = nil
		on = nil
	} else {
		k.trouble = ""
	}
	for i, a := range k.plan.listen {
		for _, a := range k.plan.switched(a) {
			is := slices.Contains(on, a)
			if is != k.on[a] {
				log.Infof("Queries for %s %s", a, map[bool]string{true: "come here", false: "take the ordinary path: " + outcomes[i].String()}[is])
			}
			k.on[a] = is
			switched.WithLabelValues(a.String()).Set(map[bool]float64{true: 1}[is])
		}
	}
}

// ensureTable makes sure that there is a table.
func (k *keeper) ensureTable() bool {
	if k.table != nil {
		return true
	}
	t, err := newTable(k.name, k.plan)
	if err != nil {
		k.complain("Nothing is redirected", err)
		return false
	}
	k.table = t
	return true
}

// complain logs a trouble once, however often it comes.
func (k *keeper) complain(what string, err error) {
	if text := what + ": " + err.Error(); text != k.trouble {
		log.Error(text)
		k.trouble = text
	}
}

// serving tells whether an instance answers at the addresses.
func (k *keeper) serving() bool { return k.reached.Load() }

// repair puts back what somebody took away.
func (k *keeper) repair() {
	missing, err := k.ensureAddresses()
	if err != nil {
		log.Warning(err)
	}
	if missing > 0 {
		repairs.WithLabelValues("address").Add(float64(missing))
		log.Infof("Put back %d addresses on the node", missing)
	}
	if k.plan.redirect == redirectNone {
		return
	}
	k.ensureTable() // without it, not even self-queries find their way
	foreign, err := listForeign()
	if err != nil {
		log.Warning(err)
		return
	}
	added, err := foreign.accept(k.name, k.plan)
	if err != nil {
		log.Warning(err)
	}
	if added > 0 {
		repairs.WithLabelValues("accept").Add(float64(added))
		log.Infof("DNS is accepted in %d more chains of the node's firewall", added)
	}
	if !foreign.hasTable(fallbackTable) {
		k.fallenFor = time.Time{}
		k.renewFallback()
	}
}

// ensureAddresses puts the addresses on the node and tells how many were missing.
func (k *keeper) ensureAddresses() (missing int, err error) {
	device, err := ensureDevice(k.device)
	if err != nil {
		return 0, err
	}
	k.device = device.Name
	for _, a := range k.plan.listen {
		was, err := ensureAddress(device, a)
		if err != nil {
			return missing, err
		}
		if was {
			missing++
		}
	}
	return missing, nil
}

// renewFallback keeps known where to ask when this server is gone.
func (k *keeper) renewFallback() {
	if k.plan.redirect == redirectNone || len(k.fixed) == 0 || time.Since(k.fallenFor) < fallbackRenewal {
		return
	}
	k.fallenFor = time.Now()
	servers := k.servers()
	fallbackEndpoints.Set(float64(len(servers)))
	if len(servers) == 0 {
		return
	}
	if err := installFallback(k.fixed, k.plan.port, servers); err != nil {
		k.complain("Queries have no way when this server is gone", err)
	}
}

// servers are those of the cluster's DNS: as the Corefile has them, or else as a
// plugin of the server blocks knows them.
func (k *keeper) servers() []netip.AddrPort {
	if len(k.fallback) > 0 {
		return k.fallback
	}
	keepers.mu.Lock()
	claims := slices.Clone(k.claims)
	keepers.mu.Unlock()
	var servers []netip.AddrPort
	for _, cl := range claims {
		servers = append(servers, cl.servers()...)
	}
	return servers
}

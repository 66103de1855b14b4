package nodelocal

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// nodeCache is what node-cache does for an address: with the program iptables, so many times.
var nodeCache = []string{
	"-t raw -I PREROUTING -p udp -m udp -d %s --dport 53 -j NOTRACK",
	"-t raw -I PREROUTING -p tcp -m tcp -d %s --dport 53 -j NOTRACK",
	"-t raw -I OUTPUT -p udp -m udp -s %s --sport 53 -j NOTRACK",
	"-t raw -I OUTPUT -p udp -m udp -d %s --dport 53 -j NOTRACK",
	"-t filter -I INPUT -p udp -m udp -d %s --dport 53 -j ACCEPT",
	"-t filter -I OUTPUT -p udp -m udp -s %s --sport 53 -j ACCEPT",
}

// abandon leaves node-cache's rules for an address on the node.
func (r *rig) abandon(t *testing.T, iptables, address string) {
	t.Helper()
	for _, rule := range nodeCache {
		args := append(strings.Fields(fmt.Sprintf(rule, address)), "-m", "comment", "--comment", "NodeLocal DNS Cache: skip conntrack")
		r.node.Run(t, iptables, args...)
	}
}

// Rules of a node-cache that was killed take the queries from the ordinary path for ever. Those for our addresses go.
func TestNodeCacheLeftovers(t *testing.T) {
	r := newRig(t)
	const another = "169.254.25.10" // of another program
	for _, address := range []string{own4, cluster4, another} {
		r.abandon(t, "iptables-nft", address)
	}
	r.node.Run(t, "ip", "address", "add", cluster4+"/32", "dev", "lo")
	if got, err := who(r.pod, "udp", cluster4); err == nil {
		t.Fatalf("%s answers; want nobody, or this test shows nothing", got)
	}
	p := r.start(t, "")
	r.expect(t, asked, "node")
	for _, address := range []string{own4, cluster4} {
		if rules := r.node.Run(t, "iptables-nft-save"); strings.Contains(rules, address) {
			t.Errorf("rules of node-cache for %s are left:\n%s", address, rules)
		}
	}
	if rules := r.node.Run(t, "iptables-nft-save"); strings.Count(rules, another) != len(nodeCache) {
		t.Errorf("rules for another address are gone:\n%s", rules)
	}
	p.Stop()
	r.expect(t, asked, "dns1", "dns2")
}

// Those of iptables-legacy cannot be removed from nftables; the log says how.
func TestLegacyLeftoversAreReported(t *testing.T) {
	r := newRig(t)
	r.abandon(t, "iptables-legacy", cluster4)
	p := r.start(t, "")
	r.expect(t, asked, "node")
	found := regexp.MustCompile(`remove them with: (iptables-legacy .*)`).FindAllStringSubmatch(p.Log(), -1)
	if len(found) != 2 {
		t.Fatalf("%d commands are logged; want one for each of two tables:\n%s", len(found), p.Log())
	}
	for _, command := range found {
		r.node.Run(t, "sh", "-c", command[1])
	}
	if rules := r.node.Run(t, "iptables-legacy-save"); strings.Contains(rules, "NodeLocal") {
		t.Errorf("the commands %q left\n%s", found, rules)
	}
	p.Stop()
	r.expectWithin(t, time.Second, clusterIP, "dns1", "dns2")
}

package nodelocal

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kubezone/kubezone/e2e/harness"
)

// repairedWithin is how soon what somebody changed is put right. It takes a tenth of that where nothing else goes on.
const repairedWithin = 2 * time.Second

// strict drops what is not established, as many nodes' firewalls do.
const strict = `table inet firewall {
	chain input {
		type filter hook input priority 0; policy drop
		ct state established,related accept
		iifname lo accept
		meta l4proto ipv6-icmp accept
	}
	chain output {
		type filter hook output priority 0; policy drop
		ct state established,related,new accept
		meta l4proto ipv6-icmp accept
	}
}
`

// Where a firewall drops packets, DNS at the addresses is accepted, for as long as a server is there.
func TestFirewallThatDrops(t *testing.T) {
	r := newRig(t)
	r.nft(t, strict)
	p := r.start(t, "")
	r.expect(t, asked, "node")

	// Somebody loads the firewall anew.
	r.nft(t, "delete table inet firewall\n"+strict)
	awaitLog(t, p, repairedWithin, "DNS is accepted in", 2)
	r.expect(t, asked, "node")

	p.Stop()
	r.expect(t, asked, "dns1", "dns2")
	if rules := r.rules(t); strings.Contains(rules, "kubezone: node's DNS") {
		t.Errorf("rules of ours are left in the firewall:\n%s", rules)
	}
}

// What a server that was killed left in the firewall, the next one takes out.
func TestFirewallAfterAKill(t *testing.T) {
	r := newRig(t)
	r.nft(t, strict)
	r.start(t, "").Kill()
	left := strings.Count(r.rules(t), "kubezone: node's DNS")
	if left == 0 {
		t.Fatal("the server left nothing behind; want rules that accept DNS")
	}
	r.start(t, "").Stop()
	if n := strings.Count(r.rules(t), "kubezone: node's DNS"); n > 0 {
		t.Errorf("%d of %d rules are left:\n%s", n, left, r.rules(t))
	}
}

// Addresses and tables that somebody removes are back at once.
func TestRepair(t *testing.T) {
	r := newRig(t)
	p := r.start(t, "")
	for _, a := range []string{own4 + "/32", cluster4 + "/32", own6 + "/128", cluster6 + "/128"} {
		r.node.Run(t, "ip", "address", "delete", a, "dev", "lo")
	}
	harness.Eventually(t, repairedWithin, func() error {
		there := r.node.Run(t, "ip", "address", "show", "dev", "lo")
		for _, a := range asked {
			if !strings.Contains(there, a) {
				return fmt.Errorf("%s is not back:\n%s", a, p.Tail(20))
			}
		}
		return nil
	})
	r.expect(t, asked, "node")
	// Tables that a process owns stay.
	r.nft(t, "flush ruleset\n"+kubeProxy())
	r.expect(t, asked, "node")
	harness.Eventually(t, repairedWithin, func() error {
		if !strings.Contains(r.rules(t), "unanswered4") {
			return errors.New("the fallback is not back")
		}
		return nil
	})
}

// With dnat nobody has the ClusterIP, and connection tracking sees the queries.
func TestDNAT(t *testing.T) {
	r := newRig(t)
	p := r.start(t, "redirect dnat")
	r.expect(t, asked, "node")
	if addresses := r.node.Run(t, "ip", "address", "show", "dev", "lo"); strings.Contains(addresses, cluster4) {
		t.Errorf("the ClusterIP is on the node:\n%s", addresses)
	}
	p.Stop()
	r.expect(t, asked, "dns1", "dns2")
}

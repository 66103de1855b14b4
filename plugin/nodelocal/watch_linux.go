package nodelocal

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// nftablesGroup is NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const nftablesGroup = 7

// calm is how long to wait after a change, as kube-proxy makes many at a time.
const calm = 50 * time.Millisecond

// watch tells of changes to interfaces, addresses and rules until ctx is done.
func watch(ctx context.Context, changes chan<- struct{}) {
	var running sync.WaitGroup
	for _, source := range []struct {
		family int
		groups []uint32
		counts func(netlink.HeaderType) bool
	}{
		{unix.NETLINK_ROUTE, []uint32{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR}, func(netlink.HeaderType) bool { return true }},
		{unix.NETLINK_NETFILTER, []uint32{nftablesGroup}, changesRules},
	} {
		running.Go(func() {
			conn, err := subscribe(source.family, source.groups)
			if err != nil {
				log.Warningf("Changes to the node are not seen: %v", err)
				return
			}
			end := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer end()
			follow(ctx, conn, source.counts, changes)
		})
	}
	running.Wait()
}

// changesRules tells whether a message is about rules or what holds them. Elements
// of sets change all the time, those of ours among them.
func changesRules(t netlink.HeaderType) bool {
	switch t & 0xff {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		return true
	}
	return false
}

func subscribe(family int, groups []uint32) (*netlink.Conn, error) {
	conn, err := netlink.Dial(family, nil)
	if err != nil {
		return nil, err
	}
	for _, group := range groups {
		if err := conn.JoinGroup(group); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// follow reads messages until the connection is closed.
func follow(ctx context.Context, conn *netlink.Conn, counts func(netlink.HeaderType) bool, changes chan<- struct{}) {
	for {
		messages, err := conn.Receive()
		switch {
		case ctx.Err() != nil, errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrClosed):
			return
		case err == nil:
			matters := false
			for _, m := range messages {
				matters = matters || counts(m.Header.Type)
			}
			if !matters {
				continue
			}
		}
		// An error means that messages were lost, and so that there were some.
		select {
		case changes <- struct{}{}:
		default: // one is noted already
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(calm):
		}
	}
}

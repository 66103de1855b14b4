package corefile

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// AddrPort reads an address with or without a port, which is port then.
func AddrPort(text string, port uint16) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.AddrPortFrom(a, port), nil
	}
	host, number, err := net.SplitHostPort(text)
	if err == nil {
		a, errAddr := netip.ParseAddr(host)
		n, errPort := strconv.ParseUint(number, 10, 16)
		if errAddr == nil && errPort == nil && a.Zone() == "" && n > 0 {
			return netip.AddrPortFrom(a, uint16(n)), nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%q: want an IP address, with or without a port", text)
}

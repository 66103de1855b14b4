package nodelocal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// fallbackDevice holds the addresses where the kernel has no dummy interfaces: it
// is always there, and an address on it is as local as on any other.
const fallbackDevice = "lo"

// The three messages of rtnetlink(7) that are needed are put together here:
// a library for all of them takes a third of a megabyte of the binary.

// ensureDevice returns an interface of that name that is up. It makes a dummy
// one if there is none, and takes lo if the kernel cannot.
func ensureDevice(name string) (*net.Interface, error) {
	device, err := net.InterfaceByName(name)
	if err != nil {
		switch err := addDummy(name); {
		case errors.Is(err, unix.EOPNOTSUPP):
			log.Warningf("The kernel has no dummy interfaces; the addresses are put on %s", fallbackDevice)
			name = fallbackDevice
		case err != nil && !errors.Is(err, unix.EEXIST): // another instance may have been faster
			return nil, fmt.Errorf("interface %s: %w", name, err)
		}
		if device, err = net.InterfaceByName(name); err != nil {
			return nil, fmt.Errorf("interface %s: %w", name, err)
		}
	}
	if device.Flags&net.FlagUp != 0 {
		return device, nil
	}
	if err := setUp(device.Index); err != nil {
		return nil, fmt.Errorf("interface %s: set up: %w", name, err)
	}
	return device, nil
}

// ensureAddress puts an address on a device; one that is there stays. It tells
// whether it was missing.
func ensureAddress(device *net.Interface, a netip.Addr) (missing bool, err error) {
	err = addAddress(device.Index, a)
	switch {
	case errors.Is(err, unix.EEXIST):
		return false, nil
	case err != nil:
		return true, fmt.Errorf("address %s on interface %s: %w", a, device.Name, err)
	}
	return true, nil
}

// addDummy makes a dummy interface.
func addDummy(name string) error {
	attributes := netlink.NewAttributeEncoder()
	attributes.String(unix.IFLA_IFNAME, name)
	attributes.Nested(unix.IFLA_LINKINFO, func(info *netlink.AttributeEncoder) error {
		info.String(unix.IFLA_INFO_KIND, "dummy")
		return nil
	})
	return route(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, ifinfo(0, unix.IFF_UP), attributes)
}

func setUp(index int) error {
	return route(unix.RTM_NEWLINK, 0, ifinfo(index, unix.IFF_UP), netlink.NewAttributeEncoder())
}

// ifinfo is a struct ifinfomsg with some flags set.
func ifinfo(index int, flags uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], flags) // which ones are meant
	return b
}

// addAddress puts an address alone, without a network, on an interface. That it
// is on other nodes too is no fault: it is not looked for (IFA_F_NODAD).
func addAddress(index int, a netip.Addr) error {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0], b[1], b[2] = unix.AF_INET, uint8(a.BitLen()), unix.IFA_F_NODAD
	if a.Is6() {
		b[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	attributes := netlink.NewAttributeEncoder()
	attributes.Bytes(unix.IFA_LOCAL, a.AsSlice())
	attributes.Bytes(unix.IFA_ADDRESS, a.AsSlice())
	return route(unix.RTM_NEWADDR, netlink.Create|netlink.Excl, b, attributes)
}

// route makes one request of rtnetlink(7).
func route(kind netlink.HeaderType, flags netlink.HeaderFlags, header []byte, attributes *netlink.AttributeEncoder) error {
	encoded, err := attributes.Encode()
	if err != nil {
		return err
	}
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Execute(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   append(header, encoded...),
	})
	return err
}

package nodelocal

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A family is what the rules for one version of IP need to know.
type family struct {
	table    nftables.TableFamily
	proto    byte // NFPROTO_*
	key      nftables.SetDatatype
	length   uint32 // of an address
	saddr    uint32 // offset in the header
	daddr    uint32
	suffix   string // of the names of sets
	contains func(netip.Addr) bool
}

var families = []*family{
	{nftables.TableFamilyIPv4, unix.NFPROTO_IPV4, nftables.TypeIPAddr, 4, 12, 16, "4", netip.Addr.Is4},
	{nftables.TableFamilyIPv6, unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 16, 8, 24, "6", netip.Addr.Is6},
}

// of returns those of addresses that belong to the family.
func (f *family) of(addresses []netip.Addr) []netip.Addr {
	var of []netip.Addr
	for _, a := range addresses {
		if f.contains(a) {
			of = append(of, a)
		}
	}
	return of
}

// familyOf returns the family of an address.
func familyOf(a netip.Addr) *family {
	if a.Is4() {
		return families[0]
	}
	return families[1]
}

// register is the one that expressions pass their value in; another is needed
// for ports alone.
const (
	register     = 1
	portRegister = 2
)

// Which end of a packet a match looks at.
type end int

const (
	source end = iota
	destination
)

// isFamily matches packets of a family, in a table of several.
func isFamily(f *family) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{f.proto}},
	}
}

// isMarked matches packets with a mark.
func isMarked(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binaryutil.NativeEndian.PutUint32(mark)},
	}
}

// loadAddress reads one address of a packet.
func loadAddress(f *family, e end) expr.Any {
	offset := f.saddr
	if e == destination {
		offset = f.daddr
	}
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.length}
}

// inSet matches packets one of whose addresses is in a set.
func inSet(f *family, e end, s *nftables.Set) []expr.Any {
	return []expr.Any{loadAddress(f, e), &expr.Lookup{SourceRegister: register, SetName: s.Name, SetID: s.ID}}
}

// isAddress matches packets with an address.
func isAddress(a netip.Addr, e end) []expr.Any {
	return []expr.Any{loadAddress(familyOf(a), e), &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: a.AsSlice()}}
}

// isPort matches packets of a protocol with a port.
func isPort(protocol byte, e end, port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{protocol}},
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: uint32(e) * 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

// Flags of a TCP segment (RFC 9293 section 3.1), which are in its octet 13.
const (
	flagsOctet = 13
	syn        = 0x02
	ack        = 0x10
)

// opens matches TCP segments that open a connection, and other those that do not.
func opens() []expr.Any { return synOnly(expr.CmpOpEq) }
func other() []expr.Any { return synOnly(expr.CmpOpNeq) }

func synOnly(op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: flagsOctet, Len: 1},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{syn | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: op, Register: register, Data: []byte{syn}},
	}
}

// loadFlow reads both addresses and the client's port, which identify a
// connection where the server's port is given. They are in registers of 4 octets,
// one after the other.
func loadFlow(f *family) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr, Len: f.length},
		&expr.Payload{DestRegister: unix.NFT_REG32_00 + f.length/4, Base: expr.PayloadBaseNetworkHeader, Offset: f.daddr, Len: f.length},
		&expr.Payload{DestRegister: unix.NFT_REG32_00 + f.length/2, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
	}
}

// remember adds a connection to a set. If that is full the rule does not match.
func remember(f *family, flows *nftables.Set) []expr.Any {
	return append(loadFlow(f), &expr.Dynset{
		SrcRegKey: unix.NFT_REG32_00, SetName: flows.Name, SetID: flows.ID, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: flows.Timeout,
	})
}

// forget removes a connection from a set: its client begins another one.
func forget(f *family, flows *nftables.Set) []expr.Any {
	return append(loadFlow(f), &expr.Dynset{
		SrcRegKey: unix.NFT_REG32_00, SetName: flows.Name, SetID: flows.ID, Operation: opDelete,
	})
}

// opDelete is NFT_DYNSET_OP_DELETE of linux/netfilter/nf_tables.h.
const opDelete = 2

// isKnown matches connections that are in a set, and makes them stay there.
func isKnown(f *family, flows *nftables.Set) []expr.Any {
	known := append(loadFlow(f), &expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: flows.Name, SetID: flows.ID})
	return append(known, remember(f, flows)...)
}

// oneIn matches one packet of n at random, and every one if n is 1.
func oneIn(n int) []expr.Any {
	return []expr.Any{
		&expr.Numgen{Register: register, Modulus: uint32(n), Type: unix.NFT_NG_RANDOM},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binaryutil.NativeEndian.PutUint32(0)},
	}
}

// dnat leads a connection to another server.
func dnat(to netip.AddrPort) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: register, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: portRegister, Data: binaryutil.BigEndian.PutUint16(to.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(familyOf(to.Addr()).proto), RegAddrMin: register, RegProtoMin: portRegister, Specified: true},
	}
}

var (
	notrack = []expr.Any{&expr.Notrack{}}
	accept  = []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept}}
)

// all puts matches and what is done together.
func all(parts ...[]expr.Any) []expr.Any {
	var exprs []expr.Any
	for _, part := range parts {
		exprs = append(exprs, part...)
	}
	return exprs
}

var protocols = []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP}

// elements are addresses as they are in a set.
func elements(addresses ...netip.Addr) []nftables.SetElement {
	var keys []nftables.SetElement
	for _, a := range addresses {
		keys = append(keys, nftables.SetElement{Key: a.AsSlice()})
	}
	return keys
}

package nodelocal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// iptables-legacy keeps its rules apart from nftables, in a form that only its
// own program can change. These are its names for the two versions of IP.
var legacyTables = []struct {
	names   string // tables in use; to ask about others would create them
	family  int
	level   int
	command string
}{
	{"/proc/net/ip_tables_names", unix.AF_INET, unix.SOL_IP, "iptables-legacy"},
	{"/proc/net/ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6, "ip6tables-legacy"},
}

// Of the kernel's linux/netfilter_ipv4/ip_tables.h, which is the same for IPv6.
const (
	getInfo    = 64 // IPT_SO_GET_INFO
	getEntries = 65 // IPT_SO_GET_ENTRIES

	infoLength   = 84 // struct ipt_getinfo
	sizeOffset   = 80 // its field size
	nameLength   = 32
	entriesStart = 40 // of struct ipt_get_entries
)

// legacyNodeCache returns the commands that remove node-cache's rules from
// iptables-legacy, one for each table that has some.
func legacyNodeCache() []string {
	var commands []string
	for _, l := range legacyTables {
		used, err := os.ReadFile(l.names)
		if err != nil {
			continue // the kernel does not have it
		}
		for _, table := range []string{"raw", "filter"} {
			if !slices.Contains(strings.Fields(string(used)), table) {
				continue
			}
			rules, err := legacyRules(l.family, l.level, table)
			if err != nil {
				log.Warningf("Cannot see whether %s has rules of node-cache in its table %s: %v", l.command, table, err)
				continue
			}
			if bytes.Contains(rules, []byte(nodeCacheComment)) {
				commands = append(commands, l.command+" -t "+table+" -S | sed -n '/"+nodeCacheComment+"/s/^-A/-D/p' | xargs -L 1 "+l.command+" -t "+table)
			}
		}
	}
	return commands
}

// legacyRules returns a table of iptables-legacy as the kernel has it.
func legacyRules(family, level int, table string) ([]byte, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	info := make([]byte, infoLength)
	copy(info[:nameLength-1], table)
	if err := getsockopt(fd, level, getInfo, info); err != nil {
		return nil, err
	}
	size := binary.NativeEndian.Uint32(info[sizeOffset:])
	entries := make([]byte, entriesStart+size)
	copy(entries[:nameLength-1], table)
	binary.NativeEndian.PutUint32(entries[nameLength:], size)
	if err := getsockopt(fd, level, getEntries, entries); err != nil {
		return nil, err
	}
	return entries[entriesStart:], nil
}

// getsockopt is getsockopt(2) with a buffer that it reads and fills.
func getsockopt(fd, level, option int, buffer []byte) error {
	length := uint32(len(buffer))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&buffer[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return errno
	}
	if int(length) != len(buffer) {
		return errors.New("the kernel's table has another layout")
	}
	return nil
}

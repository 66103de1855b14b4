// Command lookup resolves its arguments as a Go program in a pod without cgo does, with the resolver of package net, and
// prints a line for each: the name, then its addresses, or nothing.
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	for _, name := range os.Args[1:] {
		addresses, err := net.LookupHost(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		fmt.Println(name, strings.Join(addresses, " "))
	}
}

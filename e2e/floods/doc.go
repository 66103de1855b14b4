// Package floods sends far more than a server can do, and opens connections that stall, to udpbatch and to stock CoreDNS
// with and without its shed plugin, and prints what each made of it.
package floods

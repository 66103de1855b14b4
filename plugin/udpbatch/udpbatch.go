// Package udpbatch implements a plugin that serves the UDP queries of a server
// block in batches, on sockets of its own, with goroutines that are used again.
package udpbatch

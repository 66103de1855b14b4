//go:build !unix

package kube

import "os"

// lockFile opens the file. Here nothing keeps a second process from doing so:
// give each its own.
func lockFile(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
}

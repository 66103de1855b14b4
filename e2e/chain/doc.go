// Package chain tests kubezone together with the other plugins of a Corefile, each in the order in which CoreDNS runs
// them. Where no API server matters, the cluster comes from files.
package chain

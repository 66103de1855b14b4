// Package e2e tests kubezone from outside, against a real Kubernetes control plane: YAML goes into the API server, DNS
// packets come out. See README.md.
package e2e

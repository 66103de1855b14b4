// Package nodelocal tests the plugin of that name on a node made of network namespaces: a pod, the node, and two servers
// of the cluster's DNS, with rules like kube-proxy's between them. It knows the plugin as a binary only.
package nodelocal

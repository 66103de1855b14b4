#!/bin/sh
# Builds the control plane that the end-to-end tests run against, from the module proxy alone, into a folder outside git
# that is named after the pinned versions, and prints that folder. A second run finds everything there and builds nothing.
#
#	KUBEZONE_CACHE  where the folders go (default: ${XDG_CACHE_HOME:-$HOME/.cache}/kubezone)
set -eu
cd "$(dirname "$0")/.."
start=$(date +%s)

key=$({ go env GOVERSION GOOS GOARCH; cat go.mod go.sum controlplane/stock/go.mod controlplane/stock/go.sum; } | sha256sum | cut -c1-16)
dir=${KUBEZONE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kubezone}/$key
names='etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kwok coredns-stock'

missing() {
	for name in $names; do
		[ -e "$dir/$name" ] || return 0
	done
	return 1
}

if missing; then
	mkdir -p "$dir"
	exec 9>"$dir/.lock"
	flock 9 # two runs at once: the second waits, then finds the work done
fi
if missing; then
	echo "Building the control plane into $dir: about 20 minutes on 2 cores when nothing is cached." >&2
	tmp=$dir/.new
	rm -rf "$tmp"
	mkdir -p "$tmp"

	# The flags with which the Makefile builds everything: what the tests share with these programs is compiled once.
	export CGO_ENABLED=0
	case " $(go env GOFLAGS) " in
	*" -trimpath "*) ;;
	*) GOFLAGS="$(go env GOFLAGS) -trimpath" && export GOFLAGS ;;
	esac
	go build -ldflags '-s -w' -o "$tmp/" tool
	mv "$tmp/server" "$tmp/etcd" # go.etcd.io/etcd/server/v3
	go -C controlplane/stock build -ldflags '-s -w' -o "$tmp/coredns-stock" .

	for name in $names; do
		mv "$tmp/$name" "$dir/$name" # a rename: a binary is there whole or not at all
	done
	rm -rf "$tmp"
	echo "Built the control plane in $(($(date +%s) - start)) s." >&2
else
	echo "The control plane is built already ($(($(date +%s) - start)) s)." >&2
fi
echo "$dir"

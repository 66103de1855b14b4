#!/bin/sh
# Builds the control plane that the end-to-end tests run against, from the module proxy alone, into a folder outside git
# that is named after the pinned versions, and prints that folder. A second run finds everything there and builds nothing.
#
#	build.sh         the control plane of today, and CoreDNS as released
#	build.sh oldest  the oldest Kubernetes minor that is still supported
#
#	KUBEZONE_CACHE   where the folders go (default: ${XDG_CACHE_HOME:-$HOME/.cache}/kubezone)
set -eu
cd "$(dirname "$0")/.."
cache=${KUBEZONE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kubezone}

# The flags with which the Makefile builds everything: what the tests share with these programs is compiled once.
export CGO_ENABLED=0
case " $(go env GOFLAGS) " in
*" -trimpath "*) ;;
*) GOFLAGS="$(go env GOFLAGS) -trimpath" && export GOFLAGS ;;
esac

# folder MODULE...: the folder for what these modules pin.
folder() {
	pins=$(
		cat controlplane/build.sh
		go env GOVERSION GOOS GOARCH
		for module; do cat "$module/go.mod" "$module/go.sum"; done
	)
	echo "$cache/$(echo "$pins" | sha256sum | cut -c1-16)"
}

# complete DIR NAME...: whether DIR holds every NAME.
complete() {
	complete_dir=$1
	shift
	for name; do
		[ -e "$complete_dir/$name" ] || return 1
	done
}

# ensure DIR BUILD NAME...: have BUILD put every NAME into DIR, unless they are there.
ensure() {
	dir=$1 build=$2
	shift 2
	if complete "$dir" "$@"; then
		return
	fi
	mkdir -p "$dir"
	(
		flock 9 # of two runs at once, the second waits, then finds the work done
		if complete "$dir" "$@"; then
			exit
		fi
		start=$(date +%s)
		echo "Building the control plane into $dir: ten minutes or more on 2 cores when nothing is cached." >&2
		new=$dir/.new
		rm -rf "$new"
		mkdir "$new"
		"$build" "$new"
		for name; do
			mv "$new/$name" "$dir/$name" # a rename: a program is there whole or not at all
		done
		rm -rf "$new"
		echo "Built the control plane in $(($(date +%s) - start)) s." >&2
	) 9>"$dir/.lock"
}

# flags MODULE: for the linker; without the version /version would say v0.0.0.
flags() {
	echo "-s -w -X k8s.io/component-base/version.gitVersion=$(go -C "$1" list -m -f '{{.Version}}' k8s.io/kubernetes)"
}

build_current() {
	go build -ldflags "$(flags .)" -o "$1/" tool
	mv "$1/server" "$1/etcd" # go.etcd.io/etcd/server/v3
	go -C controlplane/stock build -ldflags '-s -w' -o "$1/coredns-stock" .
}

build_oldest() {
	go -C controlplane/oldest build -ldflags "$(flags controlplane/oldest)" -o "$1/" tool
}

current=$(folder . controlplane/stock)
ensure "$current" build_current etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kwok coredns-stock
if [ "${1-}" = oldest ]; then
	oldest=$(folder controlplane/oldest)
	ensure "$oldest" build_oldest kube-apiserver kube-controller-manager kube-scheduler
	ln -sf "$current/etcd" "$current/kwok" "$oldest/" # these are not part of Kubernetes
	echo "$oldest"
else
	echo "$current"
fi

# The commands of this repository; `make help` lists them. CI runs `make test`.

GO  ?= go
BIN := bin/coredns
T   ?= 1m
ROUNDS ?= 3

# The flags of the shipped binary. They are everybody's, so that a package that the binary, the tests and the linters
# share is compiled once; but the binary's with the profile in build/coredns/default.pgo. The race detector alone needs cgo.
export CGO_ENABLED = 0
export GOFLAGS := $(filter-out -trimpath -buildvcs=%,$(shell $(GO) env GOFLAGS)) -trimpath -buildvcs=false
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
LDFLAGS := -s -w -X github.com/coredns/coredns/coremain.GitCommit=$(COMMIT)

# The binary is on every node and has a limit of 32 MiB. Packages that no DNS query passes through are compiled without
# inlining, which saves a megabyte.
COLD    := k8s.io/api/core/v1 google.golang.org/... github.com/quic-go/... github.com/caddyserver/... github.com/mholt/... \
	github.com/expr-lang/...
GCFLAGS := $(foreach packages,$(COLD),-gcflags=$(packages)=-l)

# Of the images: where they go, and what is written in them. All but the folder depend on the commit alone.
IMAGES   := $(CURDIR)/bin/image
VERSION  := $(shell sed -n 's/^const version = "\(.*\)"/\1/p' build/coredns/main.go)
REVISION := $(shell git rev-parse HEAD 2>/dev/null)
CREATED  := $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

# Every Go module here. The nested ones keep what they need out of the go.mod that users of the plugin inherit. CHECKED
# are those with code of ours.
MODULES := $(patsubst %/go.mod,%,$(shell find . -name go.mod))
CHECKED := . e2e e2e/bench/plots e2e/promcheck build/chart build/image
TOOL    := $(GO) tool -modfile=$(CURDIR)/build/tools/go.mod

# The fuzz tests, each as FOLDER/NAME.
FUZZTESTS := $(shell grep -rE '^func Fuzz' --include='*_test.go' plugin | sed 's|[^/]*:func \(Fuzz[A-Za-z0-9_]*\).*|\1|')

# Run is the folder under corefile/ that `make run` serves. A KUBECONFIG in the environment alone does not count: the
# demo is the default for those who have one too.
ifeq ($(origin KUBECONFIG),command line)
RUN := kubeconfig
override KUBECONFIG := $(abspath $(KUBECONFIG))
export KUBECONFIG
else
RUN := demo
endif

.PHONY: help run build test unit e2e nodelocal floods differential differential-readme controlplane bench plots chart dashboard image print lint fuzz long clean

help: ## List these commands
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: build ## Serve the demo cluster on port 1053 of the loopback interface; with KUBECONFIG=FILE, that cluster
	@echo; echo 'Try, in another terminal:'; echo; sed 's/^/  /' corefile/$(RUN)/try.txt; echo; echo 'Ctrl-C stops the server.'; echo
	@exec $(BIN) -conf corefile/$(RUN)/Corefile

build: ## Build bin/coredns and print its size
	@$(GO) build $(GCFLAGS) -ldflags '$(LDFLAGS)' -o $(BIN) ./build/coredns
	@wc -c $(BIN) | awk '{printf "%s: %.1f MiB\n", $$2, $$1 / 1048576}'

image: ## Build the container images for amd64 and arm64, as OCI archives in bin/image, and bills of materials beside
	@for arch in amd64 arm64; do \
		GOOS=linux GOARCH=$$arch $(GO) build $(GCFLAGS) -ldflags '$(LDFLAGS)' -o $(IMAGES)/linux-$$arch/coredns ./build/coredns || exit 1; \
	done
	@$(GO) -C build/image run . -version '$(VERSION)' -revision '$(REVISION)' -created '$(CREATED)' -binaries $(IMAGES) -out $(IMAGES)

print: # the value of the variable NAME
	@echo '$($(NAME))'

test: ## Run all tests: lint, unit, fuzz, e2e
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory fuzz
	@$(MAKE) --no-print-directory e2e

unit: ## Run the tests that need no cluster, the plugin's with the race detector
	@# As root, tests make networks of their own.
	@[ "$$(id -u)" -ne 0 ] || build/need.sh ip:iproute2
	CGO_ENABLED=1 $(GO) test -race ./plugin/...
	$(GO) test -short ./build/...
	$(GO) -C build/image test -count 1 .
	$(GO) -C build/chart test -count 1 .
	$(GO) -C e2e/bench/plots test .

e2e: build image controlplane ## Run the tests against a real control plane, and build the plugin into stock CoreDNS
	@build/need.sh runc:runc ip:iproute2 nft:nftables iptables-nft:iptables conntrack:conntrack
	$(GO) test -timeout 30m -run TestForeignBuild ./build/coredns
	@# One package at a time: floods would be felt in what others measure.
	cd e2e && $(GO) test -count 1 -timeout 20m -p 1 ./...
	cd e2e && KUBEZONE_UDPBATCH=1 $(GO) test -count 1 -timeout 10m -p 1 ./chain ./differential ./wirefuzz

# N and SEED are of `make differential`: the same seed gives the same run.
N    ?= 20000
SEED ?= 1

differential: build controlplane ## Compare N (20000) random answers with those of stock CoreDNS, from SEED (1)
	cd e2e && $(GO) test -count 1 -timeout 0 -v -run TestDifferential ./differential -queries $(N) -seed $(SEED)

plots: ## Draw the tables of the benchmark in the README, in e2e/bench/plots
	$(GO) -C e2e/bench/plots run . $(CURDIR)/README.md

chart: ## Write the Helm chart out of the manifests, in build/kube-system/chart
	$(GO) -C build/chart run . -version '$(VERSION)'

dashboard: ## Write the Grafana dashboard, in build/monitoring
	$(GO) run ./build/monitoring > build/monitoring/dashboard.json.new
	mv build/monitoring/dashboard.json.new build/monitoring/dashboard.json

differential-readme:
	cd e2e && $(GO) test -count 1 -run TestREADME ./differential -update

controlplane: ## Build etcd, the Kubernetes control plane and KWOK for e2e, unless they are cached
	@e2e/controlplane/build.sh

bench: build ## Compare with CoreDNS as released and with Knot; ROWS='clusterip mem-b', ROUNDS=1, BENCH='-strict -for 1s'
	@build/need.sh dnsperf:dnsperf knotd:knot ip:iproute2
	$(GO) -C e2e/controlplane/stock build -ldflags '-s -w' -o $(CURDIR)/bin/coredns-stock .
	cd e2e && $(GO) run ./bench -rows '$(ROWS)' -rounds $(ROUNDS) -command "make bench$(if $(ROWS), ROWS='$(ROWS)')" $(BENCH)

nodelocal: build controlplane ## Measure a pod's lookups by kube-proxy's way and by the node's own DNS, 30 s for each number, as root
	@build/need.sh ip:iproute2 nft:nftables iptables-nft:iptables conntrack:conntrack
	cd e2e && $(GO) test -count 1 -timeout 30m -run '^$$' -bench Table -benchtime 1x -v ./nodelocal

floods: build controlplane ## Flood udpbatch and CoreDNS as released, with and without shed, for T (1m), and print what each made of it
	@build/need.sh ip:iproute2
	cd e2e && $(GO) test -count 1 -timeout 60m -v ./floods -for $(T)

lint: ## Check formatting, vet, staticcheck, go.mod, licences, and known vulnerabilities where their database can be reached
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt: $$unformatted" >&2; exit 1; }
	@for module in $(MODULES); do $(GO) -C $$module mod tidy -diff || exit 1; done
	@for module in $(CHECKED); do $(GO) -C $$module vet ./... || exit 1; done
	@for module in $(CHECKED); do (cd $$module && $(TOOL) staticcheck ./...) || exit 1; done
	$(GO) -C build/tools test ./...
	@build/vulncheck.sh $(TOOL) govulncheck

fuzz: ## Fuzz the plugin for T (1m), all fuzz tests side by side
	@# First compile what the tests share, once.
	@for folder in $(sort $(dir $(FUZZTESTS))); do $(GO) test -c -fuzz . -o /dev/null ./$$folder || exit 1; done
	@$(MAKE) --no-print-directory --jobs $(FUZZTESTS)

.PHONY: $(FUZZTESTS)
$(FUZZTESTS):
	@# One worker each: Go gives a process up that gets no processor for 10 s.
	$(GO) test -run '^$$' -fuzz '^$(notdir $@)$$' -fuzztime $(T) -parallel 1 ./$(dir $@)

long: build ## Run what takes longer than `make test`: unit tests ten times, long fuzzing, faults and soak, e2e on the oldest Kubernetes
	CGO_ENABLED=1 $(GO) test -race -count 10 -timeout 60m ./plugin/...
	@$(MAKE) --no-print-directory fuzz T=5m
	cd e2e && $(GO) test -count 1 -timeout 60m -v ./wirefuzz -for 30m
	cd e2e && KUBEZONE_UDPBATCH=1 $(GO) test -count 1 -timeout 60m -v ./wirefuzz -for 30m
	$(GO) -C build/image test -count 1 -timeout 60m -v -run TestTwoBuilds . -clean
	cd e2e && $(GO) test -count 1 -timeout 150m -v ./faults -long -soak 1h
	@$(MAKE) --no-print-directory floods
	cd e2e && KUBEZONE_UDPBATCH=1 $(GO) test -count 1 -timeout 60m -p 1 ./...
	cd e2e && KUBEZONE_CONTROLPLANE=$$(controlplane/build.sh oldest) && export KUBEZONE_CONTROLPLANE && \
		$(GO) test -count 1 -timeout 60m -run '^(TestService|TestEnvironment|TestHeadless|TestPod|TestStatefulSet|TestSlice)' .
	@$(MAKE) --no-print-directory bench ROWS=churn BENCH=-strict

clean: ## Remove what was built here
	rm -rf bin

# The targets people need; "make" or "make help" lists them. What continuous
# integration does is in .ci/run.

GO      ?= go
SEED    ?=
SEEDS   ?= 40
SECONDS ?= 30
RUNS    ?= 1
BENCH   ?= .
COUNT   ?= 1
FUZZTIME ?= 10s
PKG     ?= ./...

REPORT := $(GO) run ./.ci/report.go
# End-to-end tests start real processes and are slow under the race detector,
# which cannot look into those processes anyway.
RACED  = $$($(GO) list ./... | grep -v /cmd/e2e$$)

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## build bin/wiberctl
	$(GO) build -trimpath -o bin/wiberctl ./cmd/wiberctl

.PHONY: run
run: build ## build, then run a cluster of three nodes in the foreground (Ctrl-C stops it)
	./bin/wiberctl up

.PHONY: test
test: ## all tests; says what was skipped and installs nothing
	@$(GO) test -json -timeout 20m $(PKG) | $(REPORT) $(REPORTFLAGS)

.PHONY: race
race: ## the tests under the race detector, and the concurrent packages with 1 and 4 processors
	@WIBER_SIM_SEEDS=10 WIBER_SIM_SECONDS=20 $(GO) test -json -race -timeout 20m $(RACED) | $(REPORT)
	@$(GO) test -json -cpu 1,4 -timeout 20m ./raftnode/... ./topics/... ./controller/... | $(REPORT)

.PHONY: check
check: ## formatting, vet, staticcheck, layers, tidy modules, clean generated files, known vulnerabilities
	@GO="$(GO)" .ci/check

.PHONY: fmt
fmt: ## format all Go files
	gofmt -l -w $$(git ls-files '*.go')

.PHONY: sim
sim: ## simulated clusters: SEEDS=40 SECONDS=30, or one of them again: SEED=4711
	WIBER_SIM_SEED=$(SEED) WIBER_SIM_SEEDS=$(SEEDS) WIBER_SIM_SECONDS=$(SECONDS) $(GO) test -count=1 -v -timeout 60m ./member/sim

.PHONY: soak
soak: ## simulated clusters from ever new seeds, until one fails or Ctrl-C
	@for first in $$(seq $$(date +%s) 1000 9999999999); do \
		echo "seeds from $$first"; \
		WIBER_SIM_FIRST=$$first WIBER_SIM_SEEDS=100 WIBER_SIM_SECONDS=60 $(GO) test -count=1 -timeout 10h -run '^TestSim' ./member/sim || exit 1; \
	done

.PHONY: e2e
e2e: ## real processes, killed and stopped, a line per run: RUNS=20, SEED=4711 for the first one
	WIBER_E2E_RUNS=$(RUNS) WIBER_E2E_SEED=$(SEED) $(GO) test -count=1 -v -timeout 180m -run '^TestEndToEnd$$' ./cmd/e2e

.PHONY: kill
kill: ## nodes and the controller killed at random: SECONDS=60, SEED=4711
	WIBER_E2E_KILL_SECONDS=$(SECONDS) WIBER_E2E_SEED=$(SEED) $(GO) test -count=1 -v -timeout 180m -run '^TestProcessesAreKilledAtRandom$$' ./cmd/e2e

.PHONY: replace
replace: ## how long after a node's death its replacement is started, beyond the back-off
	$(GO) test -run '^$$' -bench '^BenchmarkReplacement' -benchtime 12x -timeout 60m ./cmd/e2e

.PHONY: gap
gap: ## how long a publisher stops when the leader of its shard is killed: RUNS=20
	WIBER_E2E_GAP_RUNS=$(RUNS) $(GO) test -count=1 -v -timeout 60m -run '^TestLeaderKill' ./cmd/e2e

.PHONY: measure
measure: ## what three real nodes do, fsync on: rates, latencies, processor, syncs, memory, restarts
	$(GO) test -run '^$$' -bench '^BenchmarkMeasure' -benchtime 6x -timeout 60m ./cmd/e2e

.PHONY: screenshots
screenshots: ## the pictures of the page in docs/img, taken anew (needs chromium)
	WIBER_SCREENSHOTS=$(CURDIR)/docs/img $(GO) test -count=1 -v -run '^TestPage$$' ./cmd/e2e

.PHONY: bench
bench: ## Go benchmarks: BENCH=pattern COUNT=6 PKG=./topics/...
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) $(PKG)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME=10s each
	@GO="$(GO)" .ci/fuzz $(FUZZTIME)

.PHONY: clean
clean: ## remove bin/; the data in .data stays
	rm -rf bin

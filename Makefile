# Aviary: `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# Of the whole workspace, and not with -p: so programs and tests are built of the same dependencies.
RUN := cargo run -q --bin
IMAGES_DIR ?= target/images

PLUGIN_PREFIX := $(abspath $(or $(PREFIX),$(HOME)/.local))
PLUGIN_DIR := $(PLUGIN_PREFIX)/bin

BENCH := proxy/bench/Cargo.toml

CHECKED_WITH := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

.PHONY: help demo shell down test simulate fuzz bench bench-operator bench-judge bench-time-to-zero conformance check advisories fmt lint generate e2e images setup install install-plugin

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## A good and a bad release on a real cluster, live. KEEP=1 leaves the cluster up; E2E_KUBECONFIG, IMAGES and PROMETHEUS_URL use yours
	@echo "building the demo (a few minutes the first time)"
	@cargo build --workspace --bins
	@$(RUN) aviary-demo

shell: ## A shell in the local cluster that `make demo KEEP=1` has left up
	@$(RUN) e2e-cluster -- shell

down: ## End that cluster
	@$(RUN) e2e-cluster -- down

test: setup ## Every test, the end-to-end stories on a real cluster included (root on Linux)
	cargo test --workspace

# Optimised, with the assertions of a debug build.
simulate: export AVIARY_SIMULATE_SEEDS := $(or $(SEEDS),10000)
simulate: export AVIARY_SIMULATE_SEED := $(SEED)
simulate: ## Releases in a simulated world: SEEDS=N histories from fresh seeds, or SEED=n again
	cargo test --profile simulate -p aviary-operator --lib simulation -- --nocapture

fuzz: ## Bytes that nobody thought of against the sidecar's HTTP/1.1, for MINUTES=10; what it finds is in target/fuzz
	@proxy/http1/fuzz/run.sh $(or $(MINUTES),10)

bench: ## The sidecar beside Envoy, HAProxy and nginx (proxy/bench), 25 minutes. ROUNDS=3 SECS=5 FLIPS=10000 SCENARIOS=h1max,.. choose
	@proxy/bench/setup.sh
	@proxy/bench/bench.py $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECS),--secs $(SECS)) $(if $(FLIPS),--flips $(FLIPS)) $(if $(SCENARIOS),--scenarios $(SCENARIOS))

bench-operator: setup ## One operator and N=1000 rollouts on a real control plane. CASE=rolling, sidecars, certificates, reports, broken or large for one thing alone
	cargo build --profile bench-operator --no-default-features -p aviary-operator -p aviary-e2e --bin aviary-operator --bin bench-operator
	@BUILT=$$(dirname "$$(ls -t target/*/bench-operator/bench-operator target/bench-operator/bench-operator 2>/dev/null | head -n 1)"); \
	AVIARY_OPERATOR_BIN=$${AVIARY_OPERATOR_BIN:-$$BUILT/aviary-operator} $$BUILT/bench-operator --rollouts $(or $(N),1000) --case $(or $(CASE),all) $(ARGS)

bench-time-to-zero: setup ## From the first bad answer of a release to weight 0 on every proxy, on a real cluster. ARGS=--help
	@cargo build --release --no-default-features -p aviary-e2e --bin bench-time-to-zero --bin pause
	@BUILT=$$(ls -t target/*/release/bench-time-to-zero target/release/bench-time-to-zero 2>/dev/null | head -n 1); $$BUILT $(ARGS)

bench-judge: ## How soon the guard notices a bad release and how often it blames a good one, simulated beside other rules. RUNS=500 a cell
	cargo bench -p rollout-core --bench judge -- $(or $(RUNS),500)

e2e: setup ## The end-to-end stories alone
	cargo test --workspace --test stories

conformance: ## Other people's clients and servers through the sidecar: gRPC's interop, grpcio, httpx, Node, ws, h2spec, curl, h2load, wrk, PostgreSQL, MariaDB, Redis
	@e2e/setup.sh conformance
	AVIARY_CONFORMANCE=$$(proxy/tests/conformance/install.sh) && export AVIARY_CONFORMANCE && \
	cargo test --workspace --test data_plane conformance -- --ignored --test-threads 2

check: ## What CI looks at besides the tests: formatting, lints, licences and sources of dependencies, generated files
	@rustc --version | grep -q ' $(CHECKED_WITH)\.' || echo "note: checked with Rust $(CHECKED_WITH), and this is $$(rustc --version): lints and formatting may differ"
	cargo fmt --all --check
	cargo fmt --manifest-path $(BENCH) --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --manifest-path $(BENCH) --target-dir target -- -D warnings
	.ci/cargo-deny check licenses bans sources
	@for crd in canaryrollouts callerpolicies; do \
	  $(RUN) crdgen -- $$crd | diff -u crds/$$crd.yaml - || { echo "crds/$$crd.yaml is out of date: run make generate"; exit 1; }; done

advisories: ## Known holes in dependencies, by RustSec's database, which is fetched from the network
	.ci/cargo-deny check advisories

fmt: ## Format all code
	cargo fmt --all
	cargo fmt --manifest-path $(BENCH)

lint: ## Clippy, warnings are errors
	cargo clippy --workspace --all-targets -- -D warnings

generate: ## Write the generated files: the CustomResourceDefinitions, and docs/reference
	@for crd in canaryrollouts callerpolicies; do \
	  $(RUN) crdgen -- $$crd > crds/$$crd.yaml.new && mv crds/$$crd.yaml.new crds/$$crd.yaml || exit 1; done
	@$(RUN) aviary-reference

images: setup ## Image archives of the operator, the proxy and the demo's workload, in target/images
	@$(RUN) e2e-cluster -- images --out $(IMAGES_DIR) --profile release

install: ## Install Aviary with kubectl into the cluster of your present context
	kubectl apply -k config/default

install-plugin: ## kubectl aviary, into PREFIX/bin (by default ~/.local/bin, which has to be on your PATH)
	cargo install --path cli --locked --no-track --force --root $(PLUGIN_PREFIX)
	@install -m 755 cli/kubectl_complete-aviary $(PLUGIN_DIR)
	@echo "installed in $(PLUGIN_DIR): try kubectl aviary --help"
	@case ":$$PATH:" in *":$(PLUGIN_DIR):"*) ;; *) echo "it is not on your PATH yet: export PATH=$(PLUGIN_DIR):\$$PATH";; esac

setup:
	@e2e/setup.sh

# Each target does its own set-up. What `make help` prints is the text behind `##`.

# Rust from rustup is found even where no login shell has put it into PATH.
export PATH := $(PATH):$(HOME)/.cargo/bin
# A slow or flaky connection to the registry costs a retry, not the build.
export CARGO_NET_RETRY ?= 10

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
STEP := scripts/step.sh

# Cargo unites the features of a dependency over the packages and the kinds of target (tests ask for
# dev-dependencies) of one command. All commands here therefore select the whole workspace with at least one test
# in it: then `make demo`, `make test` and `make lint` agree on every feature and none rebuilds what another built.
ALL := --workspace --locked

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-turn test-browser test-lab lab test-interop test-devices lint fmt doc fuzz sim bench bench-calls guard soak check-all audio-quality clean-demo

# How long each fuzz target runs.
SECONDS ?= 60

help: ## list all targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: ## install what the build needs, if something is missing (Debian, Ubuntu; elsewhere: say what)
	@scripts/setup.sh

demo: setup ## a whole call between two processes on this machine, with a report in demo/report.html
	@$(STEP) "build blink" $(CARGO) build $(ALL) --bin blink --test house
	@$(TARGET)/debug/blink demo --out demo

test: setup ## build once, run every test, build each crate without its default features
	@$(STEP) "build" $(CARGO) build $(ALL) --bins --examples --tests
	@$(STEP) "tests" $(CARGO) test $(ALL) --no-fail-fast
	@$(STEP) "crates without default features" scripts/features.sh

test-turn: setup ## relayed calls through a real coturn on this machine, which is installed if it is missing (Debian, Ubuntu)
	@scripts/turn.sh

test-browser: setup ## calls with real Chromium and Firefox ESR, without a window; installs them if they are missing (Debian)
	@scripts/browser.sh

test-lab: setup ## calls through networks that fail, in namespaces: needs root and Linux, installs coturn, dnsmasq, miniupnpd and nftables if missing (NAMES=outage)
	@scripts/lab.sh $(NAMES)

lab: setup ## whole calls of blink over emulated networks, and a table of them (PROFILE=lan,loss10 SEED=1 SEEDS=1): needs root and Linux
	@scripts/calls.sh lab

test-interop: setup ## gossip with a real js-libp2p node, which npm installs at the first time; Node.js is installed if missing (Debian)
	@scripts/interop.sh

test-devices: setup ## speech through real devices without hardware: null sinks of a PulseAudio of its own, installed if missing (Debian)
	@scripts/devices.sh

lint: setup ## formatting, clippy, documentation, licences and bans of dependencies; no warning allowed
	@$(STEP) "formatting" $(CARGO) fmt --all -- --check
	@$(STEP) "clippy" $(CARGO) clippy $(ALL) --all-targets -- -D warnings
	@$(STEP) "documentation" env RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(ALL) --no-deps --lib --bins --examples
	@$(STEP) "dependencies" scripts/deny.sh

fmt: ## format all sources
	@$(CARGO) fmt --all

doc: setup ## build the documentation of the workspace
	@$(CARGO) doc $(ALL) --no-deps --lib --bins --examples
	@echo "open $(TARGET)/doc/warp_blink/index.html"

fuzz: setup ## run each fuzz target for SECONDS=60 and print a table; not part of the tests
	@scripts/fuzz.sh $(SECONDS)

sim: setup ## random lives of 2 to 16 phones, in virtual time (RUNS=10000, FROM=20000; SEED=17 shows one)
	@$(CARGO) run --release --locked --quiet -p blink-sim

bench: setup ## measure what messages, the call machine, connections, sound, being found and many people cost, and write docs/benchmarks.md; then bench-calls (TRY=1: once, and write nothing)
	@scripts/bench.sh $(if $(TRY),try)

bench-calls: setup ## the same calls with blink and headless Chromium in turns, and write docs/benchmarks-calls.md: needs root and Linux
	@scripts/calls.sh bench

guard: setup ## compare instructions, allocations, messages and bytes with what is recorded in tests/guard/limits.json (RECORD=1 records anew)
	@RECORD=$(RECORD) ONLY=$(ONLY) scripts/guard.sh

soak: setup ## many calls and a long one, with processes stopped and killed and links cut: nothing may grow (CALLS=1000 HOURS=1 is the whole); Linux
	@$(STEP) "build soak" $(CARGO) build $(ALL) --bin soak --test house
	@$(TARGET)/debug/soak $(if $(CALLS),--calls $(CALLS)) $(if $(HOURS),--hours $(HOURS)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) --out $(TARGET)/soak.json

check-all: setup ## every check that CI leaves out, and one table; each in ten minutes (SKIP="test-lab" ONLY="lint sim" LIMIT=600)
	@SKIP="$(SKIP)" ONLY="$(ONLY)" LIMIT=$(LIMIT) scripts/check-all.sh

audio-quality: setup ## score real speech (PESQ) that went through calls over lossy networks, and write docs/audio-quality.md (SEEDS=3; CHECK=1: write nothing)
	@scripts/audio-quality.sh $(if $(CHECK),--check)

clean-demo: ## remove what the demo wrote
	@rm -rf demo

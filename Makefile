# What people type. What they do is in demo/, softhsm-config/ and tests/.
SHELL := /bin/bash
PACKAGES := softhsm2 opensc gcc libc6-dev bsdutils
# cargo-nextest where it is installed, else the runner that comes with Rust.
RUNNER := $(shell cargo nextest --version >/dev/null 2>&1 && echo nextest run || echo test)

# NSS's token with its tools, what kryoptic is built with, and PostgreSQL, whose servers the tests make and end themselves.
TEST_PACKAGES := $(PACKAGES) libnss3 libnss3-tools clang libclang-dev libssl-dev libsqlite3-dev pkg-config postgresql

# Modules for tests, packages of their own: one stands between an agent and its token, one is a token of another make.
FAULT := tests/modules/fault/Cargo.toml
KRYOPTIC := tests/modules/kryoptic/Cargo.toml

.PHONY: demo demo-stop check test model soak bench crash crash-case sim sim-seed sim-bugs

# Plays the main job on four SoftHSM2 tokens and leaves everything running. DEMO_EXIT=1: plays, checks and stops.
demo:
	demo/install $(PACKAGES)
	cargo build --profile demo-build --bins
	demo/play

demo-stop:
	demo/stop

# The inner loop: seconds.
check:
	cargo fmt --all -- --check
	cargo clippy --all-targets -- -D warnings
	cargo $(RUNNER) --lib

# Everything. The runner's closing line comes last.
test:
	demo/install $(TEST_PACKAGES)
	cargo fmt --all -- --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --features failpoints --bins -- -D warnings
	cargo fmt --manifest-path $(FAULT) -- --check
	cargo clippy --manifest-path $(FAULT) --locked --target-dir target/modules -- -D warnings
	cargo fmt --manifest-path $(KRYOPTIC) -- --check
	cargo build --manifest-path $(KRYOPTIC) --locked --target-dir target/modules
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps
	DEMO_EXIT=1 $(MAKE) demo
	cargo $(RUNNER)

# The whole crash matrix, and 200 kills and more of each kind of process: 20 minutes. Last result in docs/proof.md.
crash:
	CRASH=all cargo test --test it crash:: -- --nocapture --test-threads 2

# One case: make crash-case CASE=transfer.home.job-done.abort
crash-case:
	CRASH_CASE=$(CASE) cargo test --test it crash::matrix:: -- --nocapture --test-threads 1

# So many seeds of the simulation (docs/simulation.md), from one on. A seed that fails is told with its story.
SEEDS ?= 10000
FROM ?= 500
sim:
	SIM_SEEDS=$(SEEDS) SIM_FROM=$(FROM) cargo test --profile demo-build --test sim -- --ignored --nocapture many_seeds_hold

# All that happens in one: make sim-seed SEED=104 [SIM_DETAILS=1]
sim-seed:
	SIM_SEED=$(SEED) cargo test --test sim -- --ignored --nocapture one_seed

# How often each planted bug is caught.
sim-bugs:
	cargo test --test sim -- --ignored --nocapture how_often_planted_bugs_are_caught

# Every state of the protocol's model in a wider scope than `make test` has: minutes, and some GiB. Last result in docs/proof.md.
model:
	cargo test --profile demo-build --test model -- --include-ignored --nocapture --test-threads 1

# Load on a real coordinator: 200 changes a second for so many minutes with two sick agents, then a thousand agents. Wants a
# machine that does nothing else, and 20,000 descriptors at most. Fails if a bound of docs/load.md is broken.
MINUTES ?= 10
soak:
	ulimit -n $$(ulimit -H -n); SOAK_MINUTES=$(MINUTES) cargo test --profile demo-build --test soak -- --ignored --nocapture --test-threads 1

# Figures, each beside its baseline in the same run.
bench:
	demo/install $(PACKAGES) gnutls-bin
	cargo build --release --example outsider
	cargo bench --bench bench

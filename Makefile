# Everything a user or a developer does by hand, in one place. `make demo` and `make test` need a Debian machine with
# Rust; they install the rest themselves.

CARGO ?= cargo
DEMO := target/demo
LIBRARY := $(DEMO)/library
MIRROR := $(DEMO)/mirror
DORMOUSE := target/release/dormouse

# What is built once needs nothing kept for the next build: gigabytes and minutes.
ifdef CI
export CARGO_INCREMENTAL := 0
endif

.PHONY: demo test library lint unit scenario deny doc bench fidelity boot-test memory-test catch-up-test fuzz fuzz-coverage clean-demo

demo: ## build a library of real machines, run the demo pipeline on it, and say where the results are
	@echo "make demo installs what is missing of: mmdebstrap, qemu, e2fsprogs, dosfstools, mtools (with apt-get),"
	@echo "downloads Debian packages, and writes below $(CURDIR)/target only."
	@tests/guests/prerequisites.sh demo
	@$(MAKE) --no-print-directory library
	$(CARGO) build --release --locked
	@tests/demo.sh $(DORMOUSE) $(DEMO)

library: ## the demo's machines and the mirror beside them (minutes the first time, nothing after)
	@tests/guests/library.sh $(LIBRARY)
	@tests/guests/mirror.sh $(MIRROR) $(LIBRARY).facts/status

test: ## install what the tests need and run all of them
	@tests/guests/prerequisites.sh demo test
	@$(MAKE) --no-print-directory lint deny unit library doc scenario

lint:
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

deny: ## licences, sources and duplicates of every dependency
	@tests/deny.sh

unit:
	$(CARGO) test --workspace --locked --no-fail-fast

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

scenario: ## the whole program on real machines, against qemu, e2fsck, dpkg, apt and openssl
	$(CARGO) build --profile scenario --locked
	@tests/scenario.sh target/scenario/dormouse $(DEMO)

bench: ## ratios against root's own way, in one run; writes tests/bench/RESULTS.md
	@tests/guests/prerequisites.sh demo test bench
	$(CARGO) build --release --locked --workspace --bins --example decode --example judge
	@tests/bench/all.sh target/guests

fidelity: ## servers of three releases against dpkg itself, tree by tree; writes tests/fidelity/RESULTS.md; needs root
	@[ "$$(id -u)" -eq 0 ] || { echo "make fidelity: run as root: its oracle is dpkg in a chroot of a mounted image" >&2; exit 2; }
	@tests/guests/prerequisites.sh demo test
	$(CARGO) build --release --locked
	@tests/fidelity/run.sh fidelity $(DORMOUSE) target/fidelity $(RELEASES)

boot-test: ## one patched server of each release, booted under software emulation; writes tests/fidelity/BOOT.md
	@tests/guests/prerequisites.sh demo test
	$(CARGO) build --release --locked
	@tests/fidelity/run.sh boot $(DORMOUSE) target/fidelity $(RELEASES)

memory-test: ## a real kernel booted, saved in every form of QEMU, and named with its start by `inspect`
	@tests/guests/prerequisites.sh demo test
	$(CARGO) build --release --locked
	@tests/guests/memory.sh $(DORMOUSE)

catch-up-test: ## a guest saved with work in flight, woken, caught up from a CD, restarted and judged
	@tests/guests/prerequisites.sh demo test
	@$(MAKE) --no-print-directory library
	$(CARGO) build --release --locked
	@tests/guests/catch-up.sh $(DORMOUSE) $(LIBRARY) $(MIRROR) $(DEMO)

fuzz: ## seeded mutation fuzzing of every parser, longer than in `make test`
	DORMOUSE_FUZZ_SECONDS=$${DORMOUSE_FUZZ_SECONDS:-120} $(CARGO) test --workspace --release --locked mutat -- --nocapture

fuzz-coverage: ## libFuzzer on every parser, DORMOUSE_FUZZ_SECONDS each (60); writes tests/fuzz/RESULTS.md
	@tests/guests/prerequisites.sh demo test
	@tests/fuzz/run.sh "$${DORMOUSE_FUZZ_SECONDS:-60}"

clean-demo:
	rm -rf $(DEMO)

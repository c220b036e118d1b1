#!/usr/bin/env bash
# Holds every dependency to deny.toml: licences, bans and sources. cargo-deny is installed when it is missing. The
# database of vulnerabilities needs the network and is left to whoever has one: `cargo deny check advisories`.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v cargo-deny >/dev/null || cargo install --locked --quiet --debug cargo-deny
# Every crate of the lock file is asked for its licence, those of other systems too.
cargo fetch --locked --quiet
cargo deny --offline --locked check licenses bans sources

#!/usr/bin/env bash
# Makes the lists of versions beside this file: rising, equal ones on one line, in the order of each language's own tool.
# Needs python3-pip (which carries `packaging`), ruby, and node with its npm (which carries `semver`).
set -euo pipefail
cd "$(dirname "$0")"

python3 - > python.txt <<'PYTHON'
import itertools, random
from functools import cmp_to_key
from pip._vendor.packaging.version import Version
random.seed(440)
bases = ["0", "0.1", "1", "1.0", "1.0.0", "1.1", "1.10", "1.9", "2.0", "1!0.5", "2024.12.1", "10.0.0.0.1", "00.7"]
ends = ["", ".dev0", ".dev10", "a1", "-alpha.2", "_beta3", "b10", "rc1", "c2", "-preview4", "pre5", ".post1", "-2", ".rev3",
        "r4", "post", "a", "rc1.post2", "rc1.dev3", "a1.post1.dev2", ".post1.dev4", "+local", "+local.1", "+local.10", "+1.2", "+ubuntu-1"]
texts = random.sample([a + b for a, b in itertools.product(bases, ends)], 160)
groups = {}
for text in texts:
    groups.setdefault(Version(text), []).append(text)
for version in sorted(groups):
    print(" ".join(groups[version]))
PYTHON

ruby - > gem.txt <<'RUBY'
srand(42)
bases = %w[0 0.1 1 1.0 1.0.0 1.1 1.10 1.9 2.0.0 10.0.1 3.2.1.4 01.2]
ends = %w[.a .a1 .a10 .b .pre .pre.1 .rc1 .rc.2 -1 -x86 .0.a .dev .0.0 .alpha.0 .beta.1.0]
texts = (bases + bases.product(ends).map(&:join)).shuffle.first(140)
sorted = texts.sort_by { |text| Gem::Version.new(text) }
sorted.chunk_while { |a, b| (Gem::Version.new(a) <=> Gem::Version.new(b)).zero? }.each { |group| puts group.join(" ") }
RUBY

NODE_PATH="$(dirname "$(readlink -f "$(command -v npm)")")/../node_modules" node - > npm.txt <<'NODE'
const semver = require("semver");
const bases = ["0.0.0", "0.0.1", "0.1.0", "1.0.0", "1.0.10", "1.0.9", "1.10.0", "1.9.0", "2.0.0", "10.2.3"];
const ends = ["", "-alpha", "-alpha.1", "-alpha.beta", "-beta", "-beta.2", "-beta.11", "-rc.1", "-0", "-1", "-1.2", "-x-y-z.4",
  "-0.20190101000000-abcdef123456", "-a1", "-a10", "+build.5", "-rc.1+build", "-999999999999"];
const texts = bases.flatMap((base) => ends.map((end) => base + end)).filter((_, index) => index % 7 !== 3);
texts.sort(semver.compare);
const groups = [];
for (const text of texts) {
  const last = groups.at(-1);
  if (last && semver.compare(last[0], text) === 0) last.push(text);
  else groups.push([text]);
}
for (const group of groups) console.log(group.join(" "));
NODE

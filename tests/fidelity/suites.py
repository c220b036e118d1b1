#!/usr/bin/env python3
"""Prints the tables of SUITES.md from what the interpreter's test over whole security suites left beside them:
`suites.py CORPUS-DIR RELEASE...`.

With --check, ends with 1 unless 95 of 100 scripts outside of kernel and boot packages are interpreted.
"""

import argparse
import os
import sys
from collections import Counter, defaultdict

sys.dont_write_bytecode = True
import results  # noqa: E402

GOAL = 95
PHASES = ["prerm", "preinst", "postrm", "postinst"]
# Packages named beside each reason.
NAMED = 4


class Suite:
    def __init__(self, folder, name):
        self.name = name
        path = os.path.join(folder, name)
        self.packages = len(os.listdir(os.path.join(path, "new")))
        self.rows = results.rows(path, "table.tsv")

    def scripts(self, kind=None, phase=None):
        """How many scripts of a kind and phase there are, and how many of them were interpreted."""
        chosen = [row for row in self.rows if kind in (None, row[1]) and phase in (None, row[2])]
        return [sum(row[3] == "interpreted" for row in chosen), len(chosen)]

    def whole(self):
        """How many packages have scripts, and of how many all were interpreted."""
        every = {row[0] for row in self.rows}
        return [len(every - {row[0] for row in self.rows if row[3] != "interpreted"}), len(every)]

    def stopped(self):
        """Of the scripts that were not: the command, why, how many, and whose."""
        names = defaultdict(list)
        for package, kind, phase, verdict, command, why in self.rows:
            if verdict != "interpreted":
                names[("kernel and boot" if kind == "boot" else "", command, why)].append(f"{package} {phase}")
        counts = Counter({key: len(found) for key, found in names.items()})
        for key, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
            found = names[key]
            more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
            yield [count, key[1], key[2], ", ".join(found[:NAMED]) + more, key[0]]


def show(suites):
    def line(title, value):
        return [title] + [value(suite) for suite in suites]

    yield from results.table(
        [""] + [f"{suite.name}-security" for suite in suites],
        [
            line("binary packages", lambda suite: suite.packages),
            line("of them with maintainer scripts, all of which are interpreted / all", lambda suite: results.share(suite.whole())),
            line("**scripts interpreted / all, kernel and boot packages aside**", lambda suite: results.share(suite.scripts("other"))),
            line("scripts interpreted / all, kernel and boot packages", lambda suite: results.share(suite.scripts("boot"))),
        ]
        + [line(f"`{phase}` interpreted / all", lambda suite, phase=phase: results.share(suite.scripts(phase=phase))) for phase in PHASES],
    )
    for suite in suites:
        yield ""
        yield f"## {suite.name}-security: scripts left to the first boot"
        yield ""
        yield from results.table(["scripts", "stopped by", "why", "whose", ""], suite.stopped())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("releases", nargs="+")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    suites = [Suite(arguments.folder, name) for name in arguments.releases]
    print("\n".join(show(suites)))
    short = [suite.name for suite in suites if suite.scripts("other")[0] * 100 < GOAL * suite.scripts("other")[1]]
    if arguments.check and short:
        print(f"suites: fewer than {GOAL} of 100 scripts are interpreted: {', '.join(short)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Who owns the paths that differ: `owners.py ROOT COMPARISON.json` prints {path: [package:architecture, ...]}.

A path's owners are the packages whose file lists name it, by any spelling that leads to the same node: before /usr was
merged, /bin/a and /usr/bin/a were two.
"""

import json
import os
import sys

ALIASES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def canonical(root, path):
    for alias in ALIASES:
        prefix = f"/{alias}/"
        if path.startswith(prefix) and os.path.islink(f"{root}/{alias}"):
            return f"/usr{path}"
    return path


def main():
    root, comparison = sys.argv[1:]
    with open(comparison, encoding="utf-8") as file:
        wanted = {one["path"] for one in json.load(file)["differences"]}
    owners = {path: [] for path in sorted(wanted)}
    info = f"{root}/var/lib/dpkg/info"
    for name in sorted(os.listdir(info)):
        if not name.endswith(".list"):
            continue
        with open(f"{info}/{name}", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                path = canonical(root, line.rstrip("\n"))
                if path in owners:
                    owners[path].append(name[: -len(".list")])
    json.dump(owners, sys.stdout, indent=1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Compares two root folders, node by node and record by record of the databases that dpkg and its scripts keep.

    compare.py THEIRS OURS [--allowed FILE] [--json FILE] [--quiet]

THEIRS is what dpkg left, OURS what is measured. Every node is compared: whether it is there, type, permission bits,
owner and group, bytes, symbolic link's target, device number, extended attributes (access lists and capabilities among
them), and which paths are one node. Files that are databases (DATABASES below) are compared by record and field, for
their order says nothing. Times are not compared.

A difference is {path, aspect, theirs, ours}; a database's path carries "#RECORD/FIELD". FILE lists what may differ
(allowed.toml says how). Prints what is not allowed, and counts. Ends with 0 when nothing is left, 1 otherwise.
"""

import argparse
import difflib
import json
import os
import re
import stat
import sys
import tomllib

CHUNK = 1 << 20
# Files up to this size are shown by the lines that differ.
SHOWN_BYTES = 4 << 20
SHOWN_LINES = 24
# What a database may have; more is an error of the comparison, never a silent skip.
DATABASE_BYTES = 64 << 20


def name_of(path):
    """A path's bytes as text that cannot lose any of them."""
    return os.fsdecode(path)


# --- databases: each parser gives {record: {field: value}} -----------------------------------------------------


def paragraphs(data, key_fields, splitting=()):
    """Paragraphs of "Field: value", keyed by some of their fields; the fields of `splitting` are taken by the line."""
    records = {}
    for text in re.split(r"\n[ \t]*\n", data.decode("utf-8", "surrogateescape").strip("\n")):
        fields, field = {}, None
        for line in text.split("\n"):
            if line[:1] in (" ", "\t") and field is not None:
                fields[field] += "\n" + line
            elif ":" in line:
                field, value = line.split(":", 1)
                if field in fields:
                    raise ValueError(f"field {field} twice in {text[:60]!r}")
                fields[field] = value.strip(" ")
            elif line:
                raise ValueError(f"not a field: {line[:60]!r}")
        if not fields:
            continue
        key = ":".join(fields.get(name, "") for name in key_fields).rstrip(":")
        for name in splitting:
            for line in fields.pop(name, "").split("\n"):
                words = line.split()
                if words:
                    fields[f"{name} {words[0]}"] = " ".join(words[1:]) or "-"
        if key in records:
            raise ValueError(f"record {key} twice")
        records[key] = fields
    return records


def lines(data):
    """Lines whose order says nothing; one that is there twice is told apart."""
    records = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        if line:
            count = int(records.get(line, {"times": "0"})["times"]) + 1
            records[line] = {"times": str(count)}
    return records


def diversions(data):
    """Three lines each: from, to, by whom."""
    text = data.decode("utf-8", "surrogateescape").split("\n")
    if text and text[-1] == "":
        text.pop()
    if len(text) % 3:
        raise ValueError("not three lines a diversion")
    return {text[at]: {"to": text[at + 1], "by": text[at + 2]} for at in range(0, len(text), 3)}


def overrides(data):
    """owner group mode path, by path."""
    records = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        if line:
            owner, group, mode, path = line.split(" ", 3)
            records[path] = {"owner": owner, "group": group, "mode": mode}
    return records


def status(data):
    return paragraphs(data, ("Package", "Architecture"), ("Conffiles",))


DATABASES = [
    (re.compile(pattern), parser)
    for pattern, parser in [
        (r"/var/lib/dpkg/(status|available)", status),
        (r"/var/lib/dpkg/diversions", diversions),
        (r"/var/lib/dpkg/statoverride", overrides),
        (r"/var/lib/dpkg/triggers/[^/]+", lines),
        (r"/var/lib/apt/extended_states", lambda data: paragraphs(data, ("Package", "Architecture"))),
        (r"/var/cache/debconf/(config|passwords|templates)\.dat", lambda data: paragraphs(data, ("Name",), ())),
        (r"/var/lib/ucf/(hashfile|registry)", lines),
    ]
]


def database_parser(path):
    return next((parser for pattern, parser in DATABASES if pattern.fullmatch(path)), None)


# --- trees -----------------------------------------------------------------------------------------------------


class Node:
    """What lstat and the extended attributes say about one path."""

    def __init__(self, host, path):
        self.host = host
        self.path = path
        self.stat = os.lstat(host)
        mode = self.stat.st_mode
        self.is_file = stat.S_ISREG(mode)
        self.type = next(
            name
            for test, name in [
                (stat.S_ISREG, "file"),
                (stat.S_ISDIR, "directory"),
                (stat.S_ISLNK, "symlink"),
                (stat.S_ISCHR, "character device"),
                (stat.S_ISBLK, "block device"),
                (stat.S_ISFIFO, "fifo"),
                (stat.S_ISSOCK, "socket"),
            ]
            if test(mode)
        )
        self.mode = "%04o" % stat.S_IMODE(mode)
        self.owner = f"{self.stat.st_uid}:{self.stat.st_gid}"
        self.target = name_of(os.readlink(host)) if stat.S_ISLNK(mode) else None
        self.device = (
            f"{os.major(self.stat.st_rdev)}:{os.minor(self.stat.st_rdev)}"
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
            else None
        )
        self.xattrs = {
            name: os.getxattr(host, name, follow_symlinks=False).hex()
            for name in sorted(os.listxattr(host, follow_symlinks=False))
        }
        self.links = None

    def summary(self):
        text = f"{self.type} {self.mode} {self.owner}"
        if self.target is not None:
            text += f" -> {self.target}"
        if self.is_file:
            text += f" {self.stat.st_size} bytes"
        return text


def walk(root):
    """{path: Node} of everything below root, and root itself as "/"; paths that are one node know each other."""
    nodes = {"/": Node(root, "/")}
    device = nodes["/"].stat.st_dev
    todo = [(root, "")]
    groups = {}
    while todo:
        folder, prefix = todo.pop()
        with os.scandir(folder) as entries:
            names = sorted(os.fsencode(entry.name) for entry in entries)
        for name in names:
            host = os.path.join(folder, name)
            path = f"{prefix}/{name_of(name)}"
            node = nodes[path] = Node(host, path)
            if node.stat.st_dev != device:
                raise ValueError(f"{path} is another filesystem")
            if node.type == "directory":
                todo.append((host, path))
            elif node.stat.st_nlink > 1:
                groups.setdefault(node.stat.st_ino, []).append(path)
    for group in groups.values():
        for path in group:
            nodes[path].links = sorted(group)
    return nodes


def read(node, limit):
    with open(node.host, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{node.path} is larger than {limit} bytes")
    return data


def same_bytes(left, right):
    if left.stat.st_size != right.stat.st_size:
        return False
    with open(left.host, "rb", buffering=0) as one, open(right.host, "rb", buffering=0) as other:
        while True:
            first, second = one.read(CHUNK), other.read(CHUNK)
            if first != second:
                return False
            if not first:
                return True


def excerpt(left, right):
    """The lines that differ, for people."""
    if max(left.stat.st_size, right.stat.st_size) > SHOWN_BYTES:
        return None
    texts = []
    for node in (left, right):
        data = read(node, SHOWN_BYTES)
        if b"\0" in data[:8192]:
            return None
        texts.append(data.decode("utf-8", "replace").split("\n"))
    shown = [line for line in difflib.unified_diff(*texts, "dpkg", "ours", lineterm="", n=0)][2:]
    return "\n".join(line[:200] for line in shown[:SHOWN_LINES])


class Comparison:
    def __init__(self, allowed):
        self.allowed = allowed
        self.differences = []

    def note(self, path, aspect, theirs, ours, nodes=None, **more):
        difference = {"path": path, "aspect": aspect, "theirs": theirs, "ours": ours, **more}
        rule = next((rule for rule in self.allowed if rule.covers(difference, nodes)), None)
        if rule is not None:
            difference["allowed"] = rule.name
        self.differences.append(difference)

    def databases(self, parser, left, right):
        try:
            theirs, ours = (parser(read(node, DATABASE_BYTES)) for node in (left, right))
        except ValueError as error:
            self.note(left.path, "unreadable database", str(error), str(error))
            return
        for record in sorted(theirs.keys() | ours.keys()):
            one, other = theirs.get(record), ours.get(record)
            if one is None or other is None:
                aspect = "extra record" if one is None else "missing record"
                self.note(f"{left.path}#{record}", aspect, one, other)
                continue
            for field in sorted(one.keys() | other.keys()):
                if one.get(field) != other.get(field):
                    self.note(f"{left.path}#{record}/{field}", "record", one.get(field), other.get(field))

    def nodes(self, left, right):
        path = left.path
        if left.type != right.type:
            self.note(path, "type", left.summary(), right.summary())
            return
        # A symbolic link's permission bits mean nothing; Linux has them all set.
        for aspect in ("mode", "owner", "target", "device", "xattrs", "links"):
            one, other = getattr(left, aspect), getattr(right, aspect)
            if one != other:
                self.note(path, aspect, one, other)
        if left.is_file and not same_bytes(left, right):
            parser = database_parser(path)
            if parser is not None:
                self.databases(parser, left, right)
                return
            self.note(
                path,
                "content",
                f"{left.stat.st_size} bytes",
                f"{right.stat.st_size} bytes",
                nodes=(left, right),
                excerpt=excerpt(left, right),
            )

    def trees(self, theirs, ours):
        left, right = walk(os.fsencode(theirs)), walk(os.fsencode(ours))
        for path in sorted(left.keys() | right.keys()):
            one, other = left.get(path), right.get(path)
            if one is None:
                self.note(path, "extra", None, other.summary())
            elif other is None:
                self.note(path, "missing", one.summary(), None)
            else:
                self.nodes(one, other)
        return len(left), len(right)


# --- what may differ -------------------------------------------------------------------------------------------


class Rule:
    """One entry of allowed.toml."""

    KEYS = {"name", "reason", "paths", "aspects", "ignoring"}

    def __init__(self, entry):
        unknown = entry.keys() - self.KEYS
        if unknown or not entry.get("reason") or not entry.get("paths") or not entry.get("aspects"):
            raise ValueError(f"allowed entry {entry.get('name')}: needs name, reason, paths, aspects; not {unknown}")
        self.name = entry["name"]
        self.reason = entry["reason"]
        self.paths = [re.compile(pattern) for pattern in entry["paths"]]
        self.aspects = set(entry["aspects"])
        self.ignoring = [re.compile(pattern.encode(), re.MULTILINE) for pattern in entry.get("ignoring", [])]

    def covers(self, difference, nodes):
        if difference["aspect"] not in self.aspects:
            return False
        if not any(pattern.fullmatch(difference["path"]) for pattern in self.paths):
            return False
        if not self.ignoring:
            return True
        if nodes is None:
            return False
        texts = [read(node, SHOWN_BYTES) for node in nodes]
        for pattern in self.ignoring:
            texts = [pattern.sub(b"", text) for text in texts]
        return texts[0] == texts[1]


def read_rules(file):
    with open(file, "rb") as source:
        rules = [Rule(entry) for entry in tomllib.load(source)["allowed"]]
    names = [rule.name for rule in rules]
    if len(set(names)) != len(names):
        raise ValueError("two allowed entries of one name")
    return rules


def compare(theirs, ours, rules=()):
    """Everything that differs, and how many nodes each side has."""
    comparison = Comparison(rules)
    counts = comparison.trees(theirs, ours)
    return comparison.differences, counts


def main():
    parser = argparse.ArgumentParser(description="Compares two root folders.")
    parser.add_argument("theirs")
    parser.add_argument("ours")
    parser.add_argument("--allowed")
    parser.add_argument("--json")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    rules = read_rules(arguments.allowed) if arguments.allowed else []
    differences, counts = compare(arguments.theirs, arguments.ours, rules)
    left = [difference for difference in differences if "allowed" not in difference]
    tally = {rule.name: 0 for rule in rules}
    for difference in differences:
        if "allowed" in difference:
            tally[difference["allowed"]] += 1
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8", errors="surrogateescape") as out:
            json.dump(
                {"nodes": {"theirs": counts[0], "ours": counts[1]}, "allowed": tally, "differences": differences},
                out,
                indent=1,
            )
    if not arguments.quiet:
        for difference in left:
            print(json.dumps(difference))
    print(f"{counts[0]} and {counts[1]} nodes; {len(differences) - len(left)} differences allowed, {len(left)} not")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())

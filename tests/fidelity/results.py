#!/usr/bin/env python3
"""Prints the tables of RESULTS.md from what measure.sh and boot.sh left: `results.py CORPUS-DIR RELEASE...`.

With --check, ends with 1 unless every tree is equal, every filesystem clean, nothing wrong in what is installed, every
pending package injected, and 95 of 100 scripts interpreted, kernel and boot packages aside.
"""

import argparse
import json
import os
import re
import sys

sys.dont_write_bytecode = True
import compare  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
# Whose scripts make what the firmware or the boot loader starts: left to the guest's own tools.
BOOT = re.compile(r"linux-(image|headers|modules)-.*|initramfs-tools.*|grub.*|shim-.*|.*-microcode|dracut.*|systemd-boot.*")
SHOWN = 40
# Of 100 scripts outside of kernel and boot packages, so many are to be interpreted.
GOAL = 95


def load(*parts):
    with open(os.path.join(*parts), encoding="utf-8", errors="surrogateescape") as file:
        return json.load(file)


def rows(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t") for line in file if line.strip()]


def script_runs(value):
    """Every record of a script anywhere in a document, in its order."""
    if isinstance(value, dict):
        if {"package", "script", "arguments", "verdict"} <= value.keys():
            yield value
            return
        value = value.values()
    if isinstance(value, (list, tuple)) or not isinstance(value, (str, int, float, bool, type(None))):
        for one in value:
            yield from script_runs(one)


def is_done(run):
    verdict = run["verdict"]
    return (verdict.get("is") if isinstance(verdict, dict) else verdict) not in ("deferred",)


def reason_of(run):
    reason = run["verdict"].get("reason", {})
    if isinstance(reason, str):
        return "", reason
    where = f" (line {reason['line']})" if reason.get("line") else ""
    return reason.get("command") or reason.get("reason", ""), f"{reason.get('why', '')}{where}"


def judged(comparison, rules):
    """A comparison under the list as it is now, which may have grown since it was made."""
    tally = {rule.name: 0 for rule in rules}
    for one in comparison["differences"]:
        if "allowed" not in one:
            rule = next((rule for rule in rules if not rule.ignoring and rule.covers(one, None)), None)
            if rule is not None:
                one["allowed"] = rule.name
        if "allowed" in one:
            tally[one["allowed"]] = tally.get(one["allowed"], 0) + 1
    comparison["allowed"] = tally
    return comparison


class Release:
    def __init__(self, folder, name, rules):
        self.name = name
        path = os.path.join(folder, name)
        self.facts = load(path, "facts.json")
        self.pending = {(row[0], row[1]): row for row in rows(path, "mirror.facts/pending/server.tsv")}
        document = load(path, "patched.json")
        self.injection = document["injection"]
        self.offline = judged(load(path, "offline.json"), rules)
        self.final = judged(load(path, "final.json"), rules)
        self.owners = load(path, "owners.json")
        self.states = {row[0]: row[2] for row in rows(path, "patched.states")}
        self.patched = {row[0]: row[1] for row in rows(path, "patched.states")}
        self.versions = {name: {row[0]: row[1] for row in rows(path, f"{name}.states")} for name in ("dpkg", "configured")}
        self.count_scripts(rows(path, "scripts.tsv"))

    def count_scripts(self, needed):
        """How many of dpkg's script runs were interpreted; a script that was never tried had to run, too."""
        tried = {}
        for run in script_runs(self.injection):
            tried[(run["package"], run["script"], " ".join(run["arguments"]))] = run
        self.runs = list(tried.values())
        done = {}
        for run in self.runs:
            if is_done(run) and not self.is_trigger(run):
                done[(run["package"], run["script"])] = True
        self.scripts = {True: [0, 0], False: [0, 0]}
        for package, script in {(row[0].split(":")[0], row[1]) for row in needed}:
            count = self.scripts[bool(BOOT.fullmatch(package))]
            count[1] += 1
            count[0] += (package, script) in done
        self.trigger_runs = [run for run in self.runs if self.is_trigger(run)]

    @staticmethod
    def is_trigger(run):
        return run["script"] == "postinst" and run["arguments"][:1] == ["triggered"]

    def decided(self, what):
        return [one for one in self.injection["packages"] if one["decision"]["is"] == what]

    def left(self):
        """Packages and triggers that no script of their own stopped, and why they were left."""
        for one in self.injection["packages"] + self.injection.get("others", []) + self.injection.get("triggers", []):
            outcome = one.get("configured") or one.get("outcome") or {}
            if outcome.get("is") == "left" and "script" not in outcome:
                name = one.get("name") or one["package"]
                yield (f"triggers of {name}" if "triggers" in one else name), outcome["why"]

    def state_of(self, package):
        found = self.states.get(f"{package['name']}:{package['architecture']}") or self.states.get(package["name"])
        return found or "absent"

    def state_count(self, *wanted):
        return sum(self.state_of(one) in wanted for one in self.decided("inject"))

    def not_allowed(self, comparison):
        return [one for one in comparison["differences"] if "allowed" not in one]

    def wrong_offline(self):
        """Differences before the first boot's work in what a package owns that is installed already, or in a file that
        nobody owns and that the first boot's work does not mend."""
        final = {(one["path"], one["aspect"]) for one in self.not_allowed(self.final)}
        wrong = []
        for one in self.not_allowed(self.offline):
            if one["path"].startswith("/var/lib/dpkg/"):
                if (one["path"], one["aspect"]) in final:
                    wrong.append(one)
                continue
            owners = self.owners.get(one["path"], [])
            settled = [owner for owner in owners if self.is_settled(owner)]
            if (owners and settled == owners) or (one["path"], one["aspect"]) in final:
                wrong.append(one)
        return wrong

    def is_settled(self, owner):
        """Whether a package is installed already, in the version that it is to have."""
        name = owner if owner in self.states else owner.split(":")[0]
        return self.states.get(name) == "installed" and self.patched.get(name) == self.versions["dpkg"].get(name)

    def other_packages(self):
        theirs, ours = self.versions["dpkg"], self.versions["configured"]
        return sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))


def share(pair):
    return f"{pair[0]} / {pair[1]}" + (f" ({100 * pair[0] / pair[1]:.1f} %)" if pair[1] else "")


def table(head, lines):
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for line in lines:
        yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |"


def show(releases, rules):
    def line(title, value):
        return [title] + [value(release) for release in releases]

    both = lambda release: [sum(count[at] for count in release.scripts.values()) for at in (0, 1)]
    yield "## What became of the servers"
    yield ""
    yield from table(
        [""] + [release.name for release in releases],
        [
            line("packages pending (apt's own `dist-upgrade`)", lambda r: len(r.pending)),
            line("injected / pending", lambda r: f"{len(r.decided('inject'))} / {len(r.pending)}"),
            line("waiting whole for the first boot", lambda r: len(r.decided("defer"))),
            line("refused", lambda r: len(r.decided("refuse"))),
            line("`installed` when `patch` ends", lambda r: r.state_count("installed")),
            line("`unpacked` when `patch` ends", lambda r: r.state_count("unpacked")),
            line("triggers outstanding in", lambda r: f"{sum(state.startswith('triggers') for state in r.states.values())} packages"),
            line("scripts interpreted / needed, kernel and boot packages aside", lambda r: share(r.scripts[False])),
            line("scripts interpreted / needed, all", lambda r: share(both(r))),
            line("calls for triggers interpreted / met", lambda r: f"{sum(map(is_done, r.trigger_runs))} / {len(r.trigger_runs)}"),
            line("the first boot's work in a chroot", lambda r: r.facts["first_boot"]),
            line("`dpkg --audit` after it", lambda r: r.facts["audit"] or "nothing"),
            line("packages in other versions than dpkg's", lambda r: ", ".join(r.other_packages()) or "none"),
            line("nodes compared", lambda r: r.final["nodes"]["theirs"]),
            line("differences after that: allowed", lambda r: len(r.final["differences"]) - len(r.not_allowed(r.final))),
            line("differences after that: not allowed", lambda r: len(r.not_allowed(r.final))),
            line("**trees equal**", lambda r: "**no**" if r.not_allowed(r.final) else "**yes**"),
            line("wrong among what is `installed` when `patch` ends", lambda r: len(r.wrong_offline())),
            line("`e2fsck -fn`, patched", lambda r: r.facts["filesystem_patched"]),
            line("`e2fsck -fn`, after the first boot's work", lambda r: r.facts["filesystem_configured"]),
            line("`qemu-img check`", lambda r: r.facts["image_check"]),
        ],
    )
    yield ""
    yield "## Allowed differences, after the first boot's work"
    yield ""
    yield from table(
        ["name"] + [release.name for release in releases] + ["reason"],
        [[rule.name] + [release.final["allowed"][rule.name] for release in releases] + [rule.reason] for rule in rules],
    )
    for release in releases:
        yield ""
        yield f"## {release.name}: scripts that had to run"
        yield ""
        deferred = [run for run in release.runs if not is_done(run)]
        if deferred:
            yield from table(
                ["package", "script", "stopped by", "why"],
                [[run["package"], " ".join([run["script"], *run["arguments"]]), *reason_of(run)] for run in deferred],
            )
        else:
            yield "None was stopped by a command."
        left = list(release.left())
        if left:
            yield ""
            yield "Left unconfigured: " + "; ".join(f"{name} ({why})" for name, why in left) + "."
        waiting = release.decided("defer")
        if waiting:
            yield ""
            yield "Waiting whole: " + "; ".join(f"{one['name']} ({one['decision'].get('why', '')})" for one in waiting) + "."
        for title, wrong in (
            ("differences that are not allowed", release.not_allowed(release.final)),
            ("wrong among what is installed when `patch` ends", release.wrong_offline()),
        ):
            if not wrong:
                continue
            yield ""
            yield f"## {release.name}: {title}"
            yield ""
            yield from table(
                ["path", "aspect", "dpkg", "Dormouse"],
                [[one["path"], one["aspect"], short(one["theirs"]), short(one["ours"])] for one in wrong[:SHOWN]],
            )
            if len(wrong) > SHOWN:
                yield ""
                yield f"and {len(wrong) - SHOWN} more."


def show_boot(releases):
    yield "## Booted"
    yield ""
    rows_of = [
        ("first-boot work done after, seconds", "first_boot_seconds"),
        ("login prompt after, seconds", "login_seconds"),
        ("outcome recorded by the machine", "first_boot"),
        ("shutdown", "shutdown"),
        ("`dpkg --audit`", "audit"),
        ("packages not as they should be", "outstanding"),
        ("left of the first boot's work", "left"),
        ("`e2fsck -fn`", "filesystem_check"),
        ("`dormouse check`", "verdict"),
        ("result", "result"),
    ]
    yield from table(
        [""] + [release for release, _ in releases],
        [[title] + [boot.get(key, "not reached") or "nothing" for _, boot in releases] for title, key in rows_of],
    )


def short(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."


def read_boot(folder, name):
    file = os.path.join(folder, name, "boot.txt")
    if not os.path.exists(file):
        return None
    with open(file, encoding="utf-8") as lines:
        return dict(line.rstrip("\n").split("=", 1) for line in lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("releases", nargs="+")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--boot", action="store_true", help="the table of boot.sh alone")
    arguments = parser.parse_args()
    if arguments.boot:
        boots = [(name, read_boot(arguments.folder, name) or {}) for name in arguments.releases]
        print("\n".join(show_boot(boots)))
        return 0
    rules = compare.read_rules(os.path.join(HERE, "allowed.toml"))
    releases = [Release(arguments.folder, name, rules) for name in arguments.releases]
    print("\n".join(show(releases, rules)))
    bad = [
        release.name
        for release in releases
        if release.not_allowed(release.final)
        or release.wrong_offline()
        or release.other_packages()
        or release.facts["filesystem_patched"] != "clean"
        or release.facts["filesystem_configured"] != "clean"
        or release.facts["first_boot"] == "failed"
        or release.facts["audit"]
        or len(release.decided("inject")) < len(release.pending)
        or release.scripts[False][0] * 100 < GOAL * release.scripts[False][1]
    ]
    if arguments.check and bad:
        print(f"results: not as they should be: {', '.join(bad)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""The comparison notices each kind of difference, says nothing of equal trees, and allows no more than it is told.

Needs root: owners, device nodes and capabilities are made and compared.
"""

import os
import shutil
import struct
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import compare  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))

STATUS = """Package: a
Status: install ok installed
Architecture: amd64
Version: 1
Conffiles:
 /etc/a d41d8cd98f00b204e9800998ecf8427e
 /etc/b 68b329da9893e34099c7d8ad5cb9c940
Description: first
 more of it

Package: b
Status: install ok installed
Architecture: all
Version: 2
"""

CONFIG = """Name: a/question
Template: a/question
Value: yes
Owners: a
Flags: seen
"""


def write(root, path, text, mode=0o644):
    host = root + path
    os.makedirs(os.path.dirname(host), exist_ok=True)
    with open(host, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())
    os.chmod(host, mode)


def acl(*entries):
    """A POSIX access list as the kernel stores it: version 2, then tag, permissions and id of each entry."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def populate(root):
    os.makedirs(root)
    os.chmod(root, 0o755)
    write(root, "/etc/plain", "one\ntwo\n")
    write(root, "/etc/time", "made 2026-01-01\nrest\n")
    write(root, "/usr/bin/tool", b"\x7fELF\0\0binary", 0o755)
    write(root, "/usr/bin/ping", "capable", 0o755)
    os.makedirs(root + "/var/empty")
    os.symlink("plain", root + "/etc/link")
    os.mkfifo(root + "/etc/fifo", 0o600)
    os.mknod(root + "/etc/node", 0o600 | 0o020000, os.makedev(1, 3))
    write(root, "/usr/lib/one", "linked")
    os.link(root + "/usr/lib/one", root + "/usr/lib/two")
    write(root, "/usr/lib/three", "linked")
    write(root, "/var/lib/dpkg/status", STATUS)
    write(root, "/var/lib/dpkg/available", STATUS)
    write(root, "/var/lib/dpkg/diversions", "/bin/a\n/bin/a.real\nlocal\n/bin/b\n/bin/b.real\npkg\n")
    write(root, "/var/lib/dpkg/statoverride", "root adm 750 /usr/bin/tool\nroot root 600 /etc/plain\n")
    write(root, "/var/lib/dpkg/triggers/File", "/usr/share/man man-db/noawait\n/lib/x y\n")
    write(root, "/var/lib/dpkg/alternatives/editor", "manual\n/usr/bin/editor\n\n/usr/bin/vim\n30\n\n")
    write(root, "/var/lib/dpkg/info/a.list", "/.\n/etc\n/etc/a\n")
    write(root, "/var/lib/apt/extended_states", "Package: b\nArchitecture: amd64\nAuto-Installed: 1\n")
    write(root, "/var/cache/debconf/config.dat", CONFIG)
    write(root, "/var/lib/ucf/hashfile", "0123  /etc/a\n4567  /etc/b\n")


class Differences(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.theirs, self.ours = self.folder + "/theirs", self.folder + "/ours"
        populate(self.theirs)
        populate(self.ours)

    def found(self, rules=()):
        differences, _ = compare.compare(self.theirs, self.ours, rules)
        return [(one["path"], one["aspect"]) for one in differences]

    def rewrite(self, path, old, new):
        with open(self.ours + path, encoding="utf-8") as file:
            text = file.read()
        self.assertIn(old, text)
        with open(self.ours + path, "w", encoding="utf-8") as file:
            file.write(text.replace(old, new))

    def test_equal_trees_have_none(self):
        self.assertEqual(self.found(), [])

    def test_times_are_not_compared(self):
        os.utime(self.ours + "/etc/plain", (1, 1))
        self.assertEqual(self.found(), [])

    def test_a_path_too_few_and_one_too_many(self):
        os.unlink(self.ours + "/etc/plain")
        write(self.ours, "/etc/new", "")
        self.assertEqual(self.found(), [("/etc/new", "extra"), ("/etc/plain", "missing")])

    def test_an_empty_folder_too_few(self):
        os.rmdir(self.ours + "/var/empty")
        self.assertEqual(self.found(), [("/var/empty", "missing")])

    def test_another_type(self):
        os.unlink(self.ours + "/etc/link")
        write(self.ours, "/etc/link", "one\ntwo\n")
        self.assertEqual(self.found(), [("/etc/link", "type")])

    def test_permission_and_set_id_bits(self):
        os.chmod(self.ours + "/etc/plain", 0o640)
        os.chmod(self.ours + "/usr/bin/tool", 0o4755)
        os.chmod(self.ours, 0o700)
        self.assertEqual(self.found(), [("/", "mode"), ("/etc/plain", "mode"), ("/usr/bin/tool", "mode")])

    def test_owner_and_group(self):
        os.chown(self.ours + "/etc/plain", 5, -1)
        os.lchown(self.ours + "/etc/link", -1, 5)
        self.assertEqual(self.found(), [("/etc/link", "owner"), ("/etc/plain", "owner")])

    def test_content_of_one_size_and_of_another(self):
        write(self.ours, "/etc/plain", "one\ntwx\n")
        write(self.ours, "/usr/bin/tool", b"\x7fELF\0\0binaries", 0o755)
        self.assertEqual(self.found(), [("/etc/plain", "content"), ("/usr/bin/tool", "content")])

    def test_content_that_differs_in_its_last_byte_beyond_a_chunk(self):
        for root, last in ((self.theirs, b"a"), (self.ours, b"b")):
            write(root, "/usr/lib/big", bytes(compare.CHUNK) + last)
        self.assertEqual(self.found(), [("/usr/lib/big", "content")])

    def test_a_links_target(self):
        os.unlink(self.ours + "/etc/link")
        os.symlink("plain2", self.ours + "/etc/link")
        self.assertEqual(self.found(), [("/etc/link", "target")])

    def test_a_device_number(self):
        os.unlink(self.ours + "/etc/node")
        os.mknod(self.ours + "/etc/node", 0o600 | 0o020000, os.makedev(1, 5))
        self.assertEqual(self.found(), [("/etc/node", "device")])

    def test_extended_attributes_capabilities_and_access_lists(self):
        # cap_net_raw+ep, revision 2
        capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
        os.setxattr(self.ours + "/usr/bin/ping", "security.capability", capability)
        os.setxattr(self.ours + "/etc/plain", "user.note", b"x")
        expected = [("/etc/plain", "xattrs"), ("/usr/bin/ping", "xattrs")]
        try:
            os.setxattr(
                self.ours + "/var/empty",
                "system.posix_acl_default",
                acl((1, 7, 0xFFFFFFFF), (2, 5, 5), (4, 5, 0xFFFFFFFF), (16, 5, 0xFFFFFFFF), (32, 5, 0xFFFFFFFF)),
            )
            expected.append(("/var/empty", "xattrs"))
        except OSError as error:
            self.fail(f"the scratch folder's filesystem keeps no access lists: {error}")
        self.assertEqual(self.found(), expected)

    def test_a_hard_link_broken_and_one_too_many(self):
        os.unlink(self.ours + "/usr/lib/two")
        write(self.ours, "/usr/lib/two", "linked")
        self.assertEqual(self.found(), [("/usr/lib/one", "links"), ("/usr/lib/two", "links")])
        os.unlink(self.ours + "/usr/lib/three")
        os.link(self.ours + "/usr/lib/one", self.ours + "/usr/lib/three")
        self.assertEqual(len(self.found()), 3)

    def test_a_field_of_a_package(self):
        self.rewrite("/var/lib/dpkg/status", "Package: b\nStatus: install ok installed", "Package: b\nStatus: install ok unpacked")
        self.assertEqual(self.found(), [("/var/lib/dpkg/status#b:all/Status", "record")])

    def test_a_conffiles_digest_and_a_conffile_too_few(self):
        self.rewrite("/var/lib/dpkg/status", "ecf8427e", "ecf8427f")
        self.rewrite("/var/lib/dpkg/status", " /etc/b 68b329da9893e34099c7d8ad5cb9c940\n", "")
        self.assertEqual(
            self.found(),
            [
                ("/var/lib/dpkg/status#a:amd64/Conffiles /etc/a", "record"),
                ("/var/lib/dpkg/status#a:amd64/Conffiles /etc/b", "record"),
            ],
        )

    def test_a_package_too_few_and_a_field_too_many(self):
        self.rewrite("/var/lib/dpkg/status", "Version: 1", "Version: 1\nConfig-Version: 1")
        self.rewrite("/var/lib/dpkg/available", "Package: b", "Package: c")
        self.assertEqual(
            self.found(),
            [
                ("/var/lib/dpkg/available#b:all", "missing record"),
                ("/var/lib/dpkg/available#c:all", "extra record"),
                ("/var/lib/dpkg/status#a:amd64/Config-Version", "record"),
            ],
        )

    def test_the_order_of_records_says_nothing(self):
        for path in ("/var/lib/dpkg/status",):
            first, second = STATUS.split("\n\n")
            write(self.ours, path, second + "\n" + first + "\n")
        write(self.ours, "/var/lib/dpkg/diversions", "/bin/b\n/bin/b.real\npkg\n/bin/a\n/bin/a.real\nlocal\n")
        write(self.ours, "/var/lib/dpkg/triggers/File", "/lib/x y\n/usr/share/man man-db/noawait\n")
        self.assertEqual(self.found(), [])

    def test_every_other_database(self):
        self.rewrite("/var/lib/dpkg/diversions", "/bin/b.real", "/bin/b.other")
        self.rewrite("/var/lib/dpkg/statoverride", "root adm 750", "root adm 755")
        self.rewrite("/var/lib/dpkg/triggers/File", "man-db/noawait", "man-db")
        self.rewrite("/var/lib/dpkg/alternatives/editor", "manual", "auto")
        self.rewrite("/var/lib/dpkg/info/a.list", "/etc/a\n", "")
        self.rewrite("/var/lib/apt/extended_states", "Auto-Installed: 1", "Auto-Installed: 0")
        self.rewrite("/var/cache/debconf/config.dat", "Value: yes", "Value: no")
        self.rewrite("/var/lib/ucf/hashfile", "4567", "4568")
        self.assertEqual(
            self.found(),
            [
                ("/var/cache/debconf/config.dat#a/question/Value", "record"),
                ("/var/lib/apt/extended_states#b:amd64/Auto-Installed", "record"),
                ("/var/lib/dpkg/alternatives/editor", "content"),
                ("/var/lib/dpkg/diversions#/bin/b/to", "record"),
                ("/var/lib/dpkg/info/a.list", "content"),
                ("/var/lib/dpkg/statoverride#/usr/bin/tool/mode", "record"),
                ("/var/lib/dpkg/triggers/File#/usr/share/man man-db", "extra record"),
                ("/var/lib/dpkg/triggers/File#/usr/share/man man-db/noawait", "missing record"),
                ("/var/lib/ucf/hashfile#4567  /etc/b", "missing record"),
                ("/var/lib/ucf/hashfile#4568  /etc/b", "extra record"),
            ],
        )

    def test_a_database_that_cannot_be_read_is_a_difference(self):
        write(self.ours, "/var/lib/dpkg/diversions", "/bin/a\n/bin/a.real\n")
        self.assertEqual(self.found(), [("/var/lib/dpkg/diversions", "unreadable database")])

    def test_a_rule_allows_its_paths_and_aspects_alone(self):
        rule = compare.Rule({"name": "n", "reason": "r", "paths": ["/etc/pl.*"], "aspects": ["content"]})
        write(self.ours, "/etc/plain", "other\n")
        write(self.ours, "/etc/time", "other\n")
        os.chown(self.ours + "/etc/plain", 5, 5)
        differences, _ = compare.compare(self.theirs, self.ours, [rule])
        self.assertEqual(
            [(one["path"], one["aspect"], one.get("allowed")) for one in differences],
            [("/etc/plain", "owner", None), ("/etc/plain", "content", "n"), ("/etc/time", "content", None)],
        )

    def test_a_rule_that_ignores_a_part_allows_that_part_alone(self):
        rule = compare.Rule(
            {"name": "n", "reason": "r", "paths": ["/etc/time"], "aspects": ["content"], "ignoring": ["^made .*$"]}
        )
        write(self.ours, "/etc/time", "made 2027-02-02\nrest\n")
        differences, _ = compare.compare(self.theirs, self.ours, [rule])
        self.assertEqual([one.get("allowed") for one in differences], ["n"])
        write(self.ours, "/etc/time", "made 2027-02-02\nrust\n")
        differences, _ = compare.compare(self.theirs, self.ours, [rule])
        self.assertEqual([one.get("allowed") for one in differences], [None])

    def test_a_rule_without_a_reason_is_refused(self):
        with self.assertRaises(ValueError):
            compare.Rule({"name": "n", "paths": ["/x"], "aspects": ["content"]})

    def test_the_list_of_what_may_differ_is_read(self):
        rules = compare.read_rules(os.path.join(HERE, "allowed.toml"))
        self.assertTrue(rules)
        for rule in rules:
            for pattern in rule.paths:
                self.assertIsNone(pattern.fullmatch("/usr/bin/tool"), rule.name)
                self.assertIsNone(pattern.fullmatch("/var/lib/dpkg/status"), rule.name)


if __name__ == "__main__":
    if os.getuid() != 0:
        sys.exit("test_compare: owners and device nodes need root")
    unittest.main()

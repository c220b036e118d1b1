# Every key and value below a key of a hive, as libhivex reads them: lines of names in hexadecimal and digests of data.
import hashlib
import sys

import hivex

h = hivex.Hivex(sys.argv[1])
out = sys.stdout.buffer


def name(text):
    return text.encode("utf-8", "replace").hex().encode()


def walk(node, path):
    out.write(b"K %s\n" % name(path))
    for value in h.node_values(node):
        kind, data = h.value_value(value)
        digest = hashlib.sha256(data).hexdigest().encode()
        out.write(b"V %s %d %s\n" % (name(h.value_key(value)), kind & 0xFFFFFFFF, digest))
    for child in h.node_children(node):
        walk(child, path + "\\" + h.node_name(child))


sys.setrecursionlimit(4000)
start = h.root()
for part in filter(None, sys.argv[2].split("\\")):
    start = h.node_get_child(start, part)
walk(start, "")

# The names and versions of applications in a hive's list of what can be uninstalled, as libhivex reads them.
import sys

import hivex

h = hivex.Hivex(sys.argv[1])
node = h.root()
for part in sys.argv[2].split("\\"):
    node = h.node_get_child(node, part)
for child in h.node_children(node):
    values = {h.value_key(value): h.value_string(value) for value in h.node_values(child) if h.value_type(value)[0] == 1}
    if values.get("DisplayName"):
        print(values["DisplayName"], values.get("DisplayVersion", ""), sep="\t")

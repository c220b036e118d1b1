# Every change of every zone in 2026: local times around it, and the instants they are by zoneinfo.
# The first argument is the folder of the zones. One line each: zone, day, time, instant in seconds, kind.
import os
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)


def line(name, zone, local, kind):
    # fold=0: of a doubled time the first, of one that is skipped as if the clock had not been put forward yet.
    instant = local.replace(tzinfo=zone, fold=0).astimezone(timezone.utc)
    print(name, local.strftime("%Y-%m-%d"), local.strftime("%H:%M"), int(instant.timestamp()), kind)


def offset(zone, instant):
    return instant.astimezone(zone).utcoffset()


top = sys.argv[1]
names = sorted(
    os.path.relpath(os.path.join(folder, file), top) for folder, _, files in os.walk(top) for file in files
)
for name in names:
    zone = ZoneInfo(name)
    line(name, zone, datetime(2026, 3, 17, 22, 0), "plain")
    here = datetime(2026, 1, 1, tzinfo=timezone.utc)
    while here.year < 2027:
        there = here + timedelta(hours=12)
        if offset(zone, here) != offset(zone, there):
            low, high = here, there
            while high - low > MINUTE:
                middle = low + (high - low) / 2
                middle = middle.replace(second=0, microsecond=0)
                if offset(zone, middle) == offset(zone, low):
                    low = middle
                else:
                    high = middle
            before, after = offset(zone, low), offset(zone, high)
            # The local time at which the clock is changed, by either offset; the earlier and the later of both.
            marks = sorted([(high + before).replace(tzinfo=None), (high + after).replace(tzinfo=None)])
            kind = "gap" if after > before else "fold"
            inside = marks[0] + (marks[1] - marks[0]) / 2
            for local, what in [
                (marks[0] - MINUTE, "before"),
                (marks[0], kind),
                (inside, kind),
                (marks[1], "after"),
                (marks[1] + MINUTE, "after"),
            ]:
                line(name, zone, local, what)
        here = there

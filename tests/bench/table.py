# SPDX-License-Identifier: Apache-2.0
"""Tables of what datapath.py has measured: medians, ratios beside raw CRIU, ranges; and the goals."""

import statistics
from typing import NamedTuple

# What makes a row, in their order.
ROWS = {
    "criu": "raw CRIU",
    "criu-zstd": "raw CRIU, tar | zstd -1 -T0",
    "criu-lz4": "raw CRIU, tar | lz4",
    "none": "stasis none",
    "image-zstd": "stasis image, zstd",
    "image-lz4": "stasis image, lz4",
    "image-zstd-lazy": "stasis image, zstd: --lazy",
    "image-lz4-lazy": "stasis image, lz4: --lazy",
    "image-zstd-child": "stasis image, zstd, 5 % changed",
    "image-lz4-child": "stasis image, lz4, 5 % changed",
    "grab": "stasis grab, zstd",
    "grab-child": "stasis grab, zstd, 5 % changed",
    "budget": "stasis image, zstd, budget %s",
}
COLUMNS = {"frozen_ms": "frozen ms", "total_ms": "dump ms", "size_mib": "size MiB", "peak_mib": "peak MiB",
           "running_ms": "running ms", "all_in_ms": "all in ms"}
NO_RATIO = ("peak_mib",)
FLOOR = "criu"
GOALS_MIB = 1024
BEGIN, END = "<!-- begin: made by tests/bench/run data --write-docs -->", "<!-- end -->"


class Goal(NamedTuple):
    """Median of a row's column over that of another one, which is in the table without zeros: at most `limit`."""
    what: str
    row: str
    column: str
    limit: float
    beside: str = FLOOR
    mib: int = GOALS_MIB
    zeros: bool = False


GOALS = (
    Goal("frozen, streamer", "image-zstd", "frozen_ms", 0.75),
    Goal("frozen, grab", "grab", "frozen_ms", 0.4),
    Goal("frozen, grab, 5 % changed", "grab-child", "frozen_ms", 0.15),
    Goal("frozen, 16 MiB", "image-zstd", "frozen_ms", 1.15, mib=16),
    Goal("until the compressed image is safe on disk", "image-zstd", "total_ms", 0.65, "criu-zstd"),
    Goal("second checkpoint, 5 % changed: size", "image-zstd-child", "size_mib", 0.10, "image-zstd"),
    Goal("second checkpoint, 5 % changed: total", "image-zstd-child", "total_ms", 0.5, "image-zstd"),
    Goal("gated restore, zstd", "image-zstd", "running_ms", 1.3),
    Goal("gated restore, lz4", "image-lz4", "running_ms", 1.0),
    Goal("lazy restore until running", "image-lz4-lazy", "running_ms", 0.15),
    Goal("lazy restore until all is in, lz4", "image-lz4-lazy", "all_in_ms", 1.0),
    Goal("half zero pages: size beside none", "image-zstd", "size_mib", 0.55, "image-zstd", zeros=True),
)
PEAK_MORE_MIB = 64  # than the budget: the goal of the worker's memory


def median(values):
    return statistics.median(values) if values else None


def number(value):
    """Three digits that count."""
    if value is None:
        return "–"
    return "%.*f" % (0 if value >= 100 else 1 if value >= 10 else 2, value)


def cell_of(one, key, column):
    """(median, ratio or None, lowest, highest) of a row's column; None when there is nothing."""
    values = one["rows"].get(key, {}).get(column)
    if not values:
        return None
    floor = median(one["rows"].get(FLOOR, {}).get(column)) if column not in NO_RATIO else None
    return median(values), median(values) / floor if floor else None, min(values), max(values)


def title_of(data, key):
    return ROWS[key].replace("%s", data["budget"]) if key in ROWS else key


def heading(one):
    return "%d MiB%s (%s)" % (one["mib"], ", half of it zero pages" if one["zeros"] else "",
                              "one pair" if one["pairs"] == 1 else "%d pairs" % one["pairs"])


def lines_of(one, data):
    """Of each row that was measured: its title and its cells."""
    for key in ROWS:
        if key in one["rows"]:
            yield title_of(data, key), [cell_of(one, key, column) for column in COLUMNS]


def text_table(one, data):
    """Two lines for each row: medians with ratios, and ranges below them."""
    lines = ["%-36s%s" % (heading(one), "".join("%18s" % name for name in COLUMNS.values()))]
    for title, cells in lines_of(one, data):
        medians = ["%s %7s" % (number(cell[0]), "%.2f ×" % cell[1] if cell[1] else "") if cell else ""
                   for cell in cells]
        ranges = ["%s … %s" % (number(cell[2]), number(cell[3])) if cell else "" for cell in cells]
        lines.append("%-36s%s" % (title, "".join("%18s" % text for text in medians)))
        lines.append("%-36s%s" % ("", "".join("%18s" % text for text in ranges)))
    return [line.rstrip() for line in lines]


def markdown_table(one, data):
    lines = ["### " + heading(one), "", "| | %s |" % " | ".join(COLUMNS.values()), "|---|" + "--:|" * len(COLUMNS)]
    for title, cells in lines_of(one, data):
        texts = ["" if not cell else number(cell[0]) + (" (%.2f ×)" % cell[1] if cell[1] else "") for cell in cells]
        lines.append("| %s | %s |" % (title.replace("|", "\\|"), " | ".join(texts)))
    return lines + [""]


def find(data, mib, zeros):
    return next((one for one in data["tables"] if one["mib"] == mib and one["zeros"] == zeros), None)


def size_for_goals(data):
    """1 GiB, or in a short run the largest size there is below it."""
    there = [one["mib"] for one in data["tables"] if not one["zeros"] and one["mib"] <= GOALS_MIB]
    return max(there) if there else None


def judge(data, goal, mib):
    """(value, met): the ratio, both None when a row is missing."""
    mine, other = find(data, mib, goal.zeros), find(data, mib, False)
    values = mine and mine["rows"].get(goal.row, {}).get(goal.column)
    beside = other and other["rows"].get(goal.beside, {}).get(goal.column)
    if not values or not beside:
        return None, None
    ratio = median(values) / median(beside)
    return ratio, ratio <= goal.limit


def goals(data):
    """[(what, where, value, limit, beside, verdict)], as texts."""
    made = []
    largest = size_for_goals(data)
    for goal in GOALS:
        mib = goal.mib if goal.mib < GOALS_MIB else largest
        value, met = judge(data, goal, mib) if mib else (None, None)
        made.append((goal.what, "%s MiB" % mib, "–" if value is None else "%.2f ×" % value, "≤ %.2f ×" % goal.limit,
                     title_of(data, goal.beside), verdict(met)))
    one = largest and find(data, largest, False)
    peak = median(one["rows"].get("budget", {}).get("peak_mib")) if one else None
    limit = int(data["budget"].rstrip("M")) + PEAK_MORE_MIB
    met = None if peak is None else peak <= limit
    made.append(("peak memory of the worker", "%s MiB" % largest, "–" if peak is None else "%.0f MiB" % peak,
                 "≤ %d MiB" % limit, "budget + %d MiB" % PEAK_MORE_MIB, verdict(met)))
    return made


def verdict(met):
    return {None: "not measured", True: "met", False: "MISSED"}[met]


def remarks(data):
    """What is not in the tables, and what stasis had to say."""
    reasons = {}
    for key, why in data["left_out"].items():
        reasons.setdefault(why, []).append(title_of(data, key))
    lines = ["left out: %s (%s)" % ("; ".join(titles), why) for why, titles in reasons.items()]
    for one in data["tables"]:
        lines += ["FAILED: %s: %s: %s" % (heading(one), title_of(data, key), why) for key, why in one["failed"].items()]
    return lines + ["said at %s: %s" % (where, what) for what, where in data["notes"].items()]


def setting(data):
    there = data["machine"]
    return "%s; %s cores, %s GiB, kernel %s, %s; CRIU %s, %s; %d s in all" % (
        data["date"], there["cores"], there["memory_gib"], there["kernel"], there["file_system"], there["criu"],
        there["stasis"], data["seconds"])


def text(data):
    lines = ["Medians; × is the ratio to raw CRIU; below each its range.", setting(data), ""]
    for one in data["tables"]:
        lines += text_table(one, data) + [""]
    lines.append("%-46s%-10s%10s  %-11s %-30s" % ("goal", "at", "value", "must be", "beside"))
    lines += ["%-46s%-10s%10s  %-11s %-30s %s" % row for row in goals(data)]
    return "\n".join(lines + [""] * bool(remarks(data)) + remarks(data))


def markdown(data):
    lines = ["Measured on " + setting(data) + ". Medians; in brackets the ratio to raw CRIU. All single values: "
             "[bench.json](bench.json).", ""]
    for one in data["tables"]:
        lines += markdown_table(one, data)
    lines += ["### Goals", "", "| goal | at | value | must be | beside | |", "|---|---|--:|---|---|---|"]
    lines += ["| %s |" % " | ".join(cell.replace("|", "\\|") for cell in row) for row in goals(data)]
    lines += [""] + ["- " + line for line in remarks(data)] + [""] * bool(remarks(data))
    return "\n".join(lines)


def replace_in(path, data):
    """Puts the tables between the two marks of a page."""
    with open(path) as file:
        page = file.read()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit("bench: %s has not the lines %s and %s" % (path, BEGIN, END))
    with open(path, "w") as file:
        file.write(before + BEGIN + "\n" + markdown(data) + END + after)

# SPDX-License-Identifier: Apache-2.0
"""The picture (SVG) of what datapath.py has measured: bars beside raw CRIU, and the time frozen over the sizes.

It follows the reader's light or dark scheme, and needs no font or script.
"""

import math
from xml.sax.saxutils import escape

import table

WIDTH, MARGIN = 920, 32
LABEL, BAR = 262, 440  # widths
ROW, THICK = 23, 14
FLOOR = table.FLOOR

# Title of a panel, column, unit, rows, and what else a row is called there.
PANELS = (
    ("Frozen, as the process itself sees it", "frozen_ms", "ms",
     (FLOOR, "none", "image-zstd", "grab", "image-zstd-child", "grab-child"), {}),
    ("The whole dump", "total_ms", "ms",
     (FLOOR, "criu-zstd", "criu-lz4", "none", "image-zstd", "image-lz4", "grab", "image-zstd-child", "grab-child"),
     {FLOOR: "raw CRIU (neither packed nor synced)"}),
    ("Size on disk", "size_mib", "MiB",
     (FLOOR, "criu-zstd", "criu-lz4", "image-zstd", "image-lz4", "image-zstd-child"), {}),
    ("Restore, until the process runs", "running_ms", "ms",
     (FLOOR, "criu-zstd", "criu-lz4", "none", "image-zstd", "image-lz4", "image-zstd-lazy", "image-lz4-lazy"), {}),
    ("Restore, until all of its memory is there", "all_in_ms", "ms",
     (FLOOR, "image-zstd", "image-lz4", "image-zstd-lazy", "image-lz4-lazy"), {}),
)
LINES = (FLOOR, "image-zstd", "grab", "grab-child")  # over the sizes
STYLE = """
.card { fill: #ffffff; stroke: #d0d7de } .grid { stroke: #d8dee4 } .one { stroke: #59636e; stroke-dasharray: 3 3 }
text { font: 13px system-ui, "Segoe UI", "Noto Sans", Helvetica, Arial, "DejaVu Sans", sans-serif; fill: #1f2328 }
.title { font-size: 20px; font-weight: 600 } .head { font-size: 15px; font-weight: 600 } .strong { font-weight: 600 }
.muted { fill: #59636e } .small { font-size: 11.5px } .range { stroke: #1f2328; stroke-opacity: .6 }
.figures { paint-order: stroke; stroke: #ffffff; stroke-width: 5px; stroke-linejoin: round }
.floor { fill: #818b98 } .peer { fill: #c2c9d1 } .ours { fill: #0969da } .grab { fill: #8250df } .less { fill: #1a7f64 }
.line { fill: none; stroke-width: 2.5 } .line.floor { stroke: #818b98 } .line.ours { stroke: #0969da }
.line.less { stroke: #1a7f64 } .line.grab { stroke: #8250df }
@media (prefers-color-scheme: dark) {
.card { fill: #0d1117; stroke: #30363d } .grid { stroke: #262c34 } .one { stroke: #9198a1 }
text { fill: #e6edf3 } .muted { fill: #9198a1 } .range { stroke: #e6edf3 }
.figures { stroke: #0d1117 }
.floor { fill: #7d8590 } .peer { fill: #4a525c } .ours { fill: #4493f8 } .grab { fill: #ab7df8 } .less { fill: #3fb68b }
.line { fill: none } .line.floor { stroke: #7d8590 } .line.ours { stroke: #4493f8 }
.line.less { stroke: #3fb68b } .line.grab { stroke: #ab7df8 }
}
"""


def say(x, y, text, kind="", anchor="start"):
    return '<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>' % (x, y, kind, anchor, escape(text))


def line(x1, y1, x2, y2, kind):
    return '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>' % (x1, y1, x2, y2, kind)


def kind_of(key):
    if key in (FLOOR, "grab"):
        return "floor" if key == FLOOR else key
    return "peer" if key.startswith("criu") else "less" if key.endswith("-child") else "ours"


def bar(x, y, scale, name, cell, unit, kind):
    """One row: its name, a bar as long as its ratio, its range as a thin line, its figures."""
    middle, ratio, low, high = cell
    floor = middle / ratio
    end, farthest = x + ratio * scale, x + max(ratio, high / floor) * scale
    return [say(x - 12, y + THICK - 3, name, anchor="end"),
            '<rect x="%.1f" y="%.1f" width="%.1f" height="%d" rx="2" class="%s"/>' %
            (x, y, max(end - x, 1), THICK, kind),
            line(x + low / floor * scale, y + THICK / 2, x + high / floor * scale, y + THICK / 2, "range"),
            '<text x="%.1f" y="%.1f" class="figures"><tspan class="strong">%s %s</tspan>'
            '<tspan dx="8" class="muted">%.2f ×</tspan></text>' %
            (farthest + 8, y + THICK - 3, table.number(middle), unit, ratio)]


def panel(data, one, description, y):
    """(its elements, where it ends)"""
    title, column, unit, keys, names = description
    cells = [(key, table.cell_of(one, key, column)) for key in keys]
    cells = [(key, cell) for key, cell in cells if cell and cell[1]]
    if len(cells) < 2:
        return [], y
    x, longest = MARGIN + LABEL, max(max(cell[1], cell[3] * cell[1] / cell[0]) for _, cell in cells)
    scale, bottom = BAR / longest, y + 20 + ROW * len(cells)
    # The ratio 1; bars and figures are drawn over it.
    made = [say(MARGIN, y, title, "head"), line(MARGIN, y + 8, WIDTH - MARGIN, y + 8, "grid"),
            line(x + scale, y + 18, x + scale, bottom - ROW + THICK + 4, "one")]
    for row, (key, cell) in enumerate(cells):
        made += bar(x, y + 20 + ROW * row, scale, names.get(key, table.title_of(data, key)), cell, unit, kind_of(key))
    return made, bottom + 26


def y_of(value, lowest, highest, top, height):
    return top + height * (1 - (math.log10(value) - lowest) / (highest - lowest))


def apart(places, distance):
    """Moves labels down until none covers the one above it."""
    moved, last = {}, -math.inf
    for key, y in sorted(places.items(), key=lambda item: item[1]):
        last = moved[key] = max(y, last + distance)
    return moved


def axes(x, top, width, height, sizes, lowest, highest):
    made = []
    for value in (1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000):
        if lowest <= math.log10(value) <= highest:
            y = y_of(value, lowest, highest, top, height)
            made += [line(x, y, x + width, y, "grid"), say(x - 8, y + 4, "%d ms" % value, "muted small", "end")]
    for at, mib in enumerate(sizes):
        made.append(say(x + width * at / (len(sizes) - 1), top + height + 18,
                        "%d MiB" % mib if mib < 1024 else "%g GiB" % (mib / 1024), "muted small", "middle"))
    return made


def over_sizes(data, y):
    """Frozen, for each size of memory: both axes in powers. (its elements, where it ends)"""
    tables = sorted((one for one in data["tables"] if not one["zeros"]), key=lambda one: one["mib"])
    points = {key: [(at, table.cell_of(one, key, "frozen_ms")[0]) for at, one in enumerate(tables)
                    if table.cell_of(one, key, "frozen_ms")] for key in LINES}
    points = {key: places for key, places in points.items() if places}
    if len(tables) < 2 or not points:
        return [], y
    values = [value for places in points.values() for _, value in places]
    lowest, highest = math.log10(min(values)) - 0.2, math.log10(max(values)) + 0.1
    x, top, width, height = MARGIN + 70, y + 24, 540, 220
    made = [say(MARGIN, y, "Frozen, by the size of the memory", "head"),
            line(MARGIN, y + 8, WIDTH - MARGIN, y + 8, "grid")]
    made += axes(x, top, width, height, [one["mib"] for one in tables], lowest, highest)
    ends = {}
    for key, places in points.items():
        kind = kind_of(key)
        spots = [(x + width * at / (len(tables) - 1), y_of(value, lowest, highest, top, height))
                 for at, value in places]
        path = " ".join("%.1f,%.1f" % spot for spot in spots)
        made.append('<polyline points="%s" class="line %s"/>' % (path, kind))
        made += ['<circle cx="%.1f" cy="%.1f" r="4" class="dot %s"/>' % (*spot, kind) for spot in spots]
        ends[key] = spots[-1][1]
    made += [say(x + width + 14, place + 4, table.title_of(data, key)) for key, place in apart(ends, 17).items()]
    return made, top + height + 46


def draw(data):
    mib = table.size_for_goals(data)
    one = table.find(data, mib, False) if mib else None
    if not one:
        raise SystemExit("bench: nothing to draw: no size up to %d MiB was measured" % table.GOALS_MIB)
    size = "%g GiB" % (mib / 1024) if mib >= 1024 else "%d MiB" % mib
    title = "Checkpoint and restore of %s of memory, beside raw CRIU" % size
    body = [say(MARGIN, 46, title, "title"),
            say(MARGIN, 70, "Half random bytes, half text. Shorter is better; × is the ratio to raw CRIU (dashed). "
                "Medians of %d, thin lines: ranges. %s" % (one["pairs"], data["date"]), "muted")]
    y = 112
    for description in PANELS:
        made, y = panel(data, one, description, y)
        body += made
    made, y = over_sizes(data, y)
    body += made
    return ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" '
            'aria-label="%s">\n<title>%s</title>\n<style>%s</style>\n'
            '<rect x=".5" y=".5" width="%d" height="%d" rx="8" class="card"/>\n%s\n</svg>\n' %
            (WIDTH, y, WIDTH, y, escape(title), escape(title), STYLE, WIDTH - 1, y - 1, "\n".join(body)))

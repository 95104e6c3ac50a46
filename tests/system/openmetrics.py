#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Is a page OpenMetrics text 1.0, as far as we use it? openmetrics.py FILE"""

import re
import sys

SUFFIXES = {
    "counter": ["_total"],
    "gauge": [""],
    "histogram": ["_bucket", "_count", "_sum"],
    "info": ["_info"],
}
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")


def check_histogram(name, series):
    """Cumulative buckets up to infinity, which is the count."""
    for labels, samples in series.items():
        buckets = [(float(bound), value) for bound, value in samples["_bucket"]]
        where = f"{name}{{{','.join(labels)}}}"
        assert buckets == sorted(buckets), f"{where}: bounds or counts go down"
        assert buckets[-1][0] == float("inf"), f"{where}: no bucket +Inf"
        assert all(a[1] <= b[1] for a, b in zip(buckets, buckets[1:])), f"{where}: not cumulative"
        assert samples["_count"] == [(None, buckets[-1][1])], f"{where}: its count is not that of +Inf"
        assert len(samples["_sum"]) == 1, f"{where}: no sum"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    assert text.endswith("\n# EOF\n"), "the end is missing"
    families, histograms, seen = {}, {}, set()
    family = None
    for line in text.splitlines()[:-1]:
        if line.startswith("# "):
            _, kind, name, rest = line.split(" ", 3)
            if kind == "TYPE":
                assert name not in families, f"{name}: twice"
                assert rest in SUFFIXES, line
                families[name], family = rest, name
            assert kind in ("TYPE", "UNIT", "HELP") and name == family, line
            assert kind != "UNIT" or name.endswith("_" + rest), f"{name}: its unit is not {rest}"
            continue
        match = SAMPLE.fullmatch(line)
        assert match, f"not a sample: {line!r}"
        name, labels, value = match.groups()
        labels = re.findall(LABEL, labels or "")
        suffix = name[len(family) :]
        assert name.startswith(family) and suffix in SUFFIXES[families[family]], f"{line} in {family}"
        key = (name, tuple(labels))
        assert key not in seen, f"{line}: twice"
        seen.add(key)
        assert float(value) >= 0, line
        if families[family] == "histogram":
            bound = next((label[4:-1] for label in labels if label.startswith('le="')), None)
            rest = tuple(label for label in labels if not label.startswith('le="'))
            samples = histograms.setdefault(family, {}).setdefault(rest, {"_bucket": [], "_count": [], "_sum": []})
            samples[suffix].append((bound, float(value)))
    assert seen, "no samples"
    for name, series in histograms.items():
        check_histogram(name, series)


main()

#!/usr/bin/env python3
"""Plots beside the tables of docs/benchmarks.md, of the figures in docs/benchmarks: nothing is measured for them.

What has a peer in the same run is shown by it: as a ratio, or both beside each other.
"""

import json
import pathlib
import sys

import plot

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
TICKS = 1_000


def set_up(links):
    ways = [("direct", 0, "on one machine"), ("direct", 50, "50 ms, direct"), ("direct", 100, "100 ms, direct")]
    ways += [("relayed", 50, "50 ms, over two relays"), ("relayed", 100, "100 ms, over two relays")]
    ways = [way for way in ways if f"{way[0]}/{way[1]}/ours" in links["connected_us"]]
    ratio = lambda kind: [links[kind][f"{way}/{delay}/bare"] / links[kind][f"{way}/{delay}/ours"] for way, delay, _ in ways]
    series = {"connected": ratio("connected_us"), "first packet": ratio("heard_us")}
    title = "How many times as long the bare engine takes to set a connection up"
    return plot.bars(title, [text for *_, text in ways], series, log=True)


def processor(links):
    figure = links["processor_ppm"]
    counts = sorted({int(name.split("/")[0]) for name in figure})
    of = lambda who: [figure[f"{n}/{who}"] / 1e4 for n in counts]
    groups = [f"one of {n} connections" if n > 1 else "one connection" for n in counts]
    return plot.bars("Processor for each connection, both ends, % of a core", groups, {"ours": of("ours"), "bare": of("bare")})


STAGES = [
    ("refuse/1_length", "a length that no frame has"),
    ("refuse/1_version", "a later version"),
    ("refuse/2_mac/{}", "wrong MAC"),
    ("refuse/3_seen_before/{}", "seen before"),
    ("refuse/4_handshake/{}", "random handshake"),
    ("refuse/5_impostor", "claims another identity"),
    ("refuse/6_not_admitted/{}", "valid, not admitted"),
]


def refusals(wire):
    fast = lambda name: wire["times"][name]["fastest_ns"]
    series = {}
    for way in ["classical_strangers", "hybrid_strangers"]:
        mac = fast(f"refuse/2_mac/{way}")
        # Where the suite does not matter, it was measured once.
        once = way.startswith("classical")
        series[way.split("_")[0]] = [
            fast(name.format(way)) / mac if once or "{}" in name else None for name, _ in STAGES
        ]
    title = "What refusing a stranger's first message costs, in checks of a MAC"
    return plot.bars(title, [text for _, text in STAGES], series, log=True)


def receiving(audio):
    counts = [1, 4, 16]
    share = lambda n: audio["times"][f"receive/peers/{n}"]["fastest_ns"] / TICKS / 1e5
    groups = [f"{n} peers" if n > 1 else "1 peer" for n in counts]
    return plot.bars("Decoding and mixing, % of a core", groups, {"all of them": [share(n) for n in counts]})


def scale(run):
    figure = run["scale"]
    counts = sorted({int(name.split("/")[1]) for name in figure if name.startswith("talkers/")})
    of = lambda name: [figure[f"talkers/{n}/{name}_cpu_ppm"] / 1e4 for n in counts]
    series = {"without processing": of("plain"), "with all voice processing": of("processed")}
    groups = [f"{n} talk to it" if n > 1 else "1 talks to it" for n in counts]
    return plot.bars("A whole node, % of a core", groups, series)


# By file: which figures it is made of.
PLOTS = {
    "set-up": ("links", set_up),
    "connections": ("links", processor),
    "refusals": ("wire", refusals),
    "receiving": ("audio", receiving),
    "scale": ("scale", scale),
}


def main():
    for name, (source, make) in PLOTS.items():
        figures = FOLDER / f"{source}.json"
        if not figures.exists():
            print(f"bench_plots.py: {source} was not measured, so there is no plot of it", file=sys.stderr)
            continue
        made = make(json.loads(figures.read_text(encoding="utf-8")))
        (FOLDER / f"{name}.svg").write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()

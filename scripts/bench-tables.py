#!/usr/bin/env python3
"""bench-tables.py OUTPUT: writes the figures of a run of the benchmark `wire` into docs/.

docs/benchmarks/wire.json gets all of them; in docs/benchmarks.md what stands between `<!-- figures: NAME -->` and
`<!-- end -->` is replaced. The rest of that page is written by hand, and quotes no figures.
"""

import json
import os
import pathlib
import platform
import re
import subprocess
import sys

UNITS = {"ps": 1e-3, "ns": 1.0, "µs": 1e3, "ms": 1e6, "s": 1e9}
ROW = re.compile(r"^([│ ]*[├╰]─ )(\S+) +(.*)$")
TIME = re.compile(r"([\d.]+) (ps|ns|µs|ms|s)\b")
DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"


def read(lines):
    """The times in ns by name, and the sizes of frames by name."""
    times, sizes, path = {}, {}, []
    for line in lines:
        if line.startswith("#bytes "):
            _, name, size = line.split()
            sizes[name] = int(size)
            continue
        row = ROW.match(line)
        if not row:
            continue
        depth = len(row[1]) // 3
        path[depth - 1 :] = [row[2]]
        found = TIME.findall(row[3])
        if len(found) >= 4:
            fastest, slowest, median, mean = [round(float(n) * UNITS[unit], 1) for n, unit in found[:4]]
            # Names say their group themselves; the module that a benchmark stands in is no part of it.
            name = "/".join(path if "/" in path[0] else path[1:])
            times[name] = {"fastest_ns": fastest, "median_ns": median, "mean_ns": mean, "slowest_ns": slowest}
    if len(times) < 40 or len(sizes) < 12:
        sys.exit(f"bench-tables.py: {len(times)} times and {len(sizes)} sizes are too few: was that a whole run?")
    return times, sizes


def us(ns):
    us = ns / 1e3
    digits = 0 if us >= 100 else 1 if us >= 10 else 2 if us >= 0.1 else 4
    return f"{us:,.{digits}f}"


def per_second(ns):
    n = 1e9 / ns
    digits = 10 ** max(0, len(str(int(n))) - 3)
    return f"{round(n / digits) * digits:,}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


WAYS = ["classical_strangers", "classical_contacts", "hybrid_strangers", "hybrid_contacts"]


def plain(way):
    return way.replace("_", ", ")


def tables(times, sizes):
    fast = lambda name: times[name]["fastest_ns"]
    both = lambda name: [us(fast(name)), us(times[name]["median_ns"])]

    def messages(names):
        rows = []
        for shown, name in names:
            seal, opened = f"seal/{name}", f"open/{name}"
            rows.append([shown, f"{sizes[name]:,}", *both(seal), *both(opened), per_second(fast(opened))])
        return table(["message", "bytes", "seal µs", "median", "open µs", "median", "opened a second"], rows)

    def refusals():
        stages = [
            ("a length that no frame has", "refuse/1_length", [None]),
            ("a later version", "refuse/1_version", [None]),
            ("wrong MAC", "refuse/2_mac", WAYS),
            ("seen before", "refuse/3_seen_before", WAYS),
            ("right MAC, random handshake", "refuse/4_handshake", WAYS),
            ("claims another identity", "refuse/5_impostor", [None]),
            ("valid, sender not admitted", "refuse/6_not_admitted", WAYS),
        ]
        rows = []
        for shown, name, ways in stages:
            for way in ways:
                full = f"{name}/{way}" if way else name
                mac = fast(f"refuse/2_mac/{way or WAYS[0]}")
                label = f"{shown} ({plain(way)})" if way else shown
                rows.append([label, *both(full), f"{fast(full) / mac:.3g}", per_second(fast(full))])
        return table(["ends at", "µs", "median", "MAC checks", "refused a second"], rows)

    def sessions():
        names = ["replay", "seal/512", "seal/16384"]
        shown = ["received before", "wrong seal, bucket 512", "wrong seal, bucket 16,384"]
        rows = [
            [text, *both(f"refuse/transport/{name}"), per_second(fast(f"refuse/transport/{name}"))]
            for text, name in zip(shown, names)
        ]
        return table(["a transport message", "µs", "median", "refused a second"], rows)

    def singles(prefix):
        names = [name for name in times if name.startswith(prefix + "/")]
        return table(
            ["operation", "µs", "median", "a second"],
            [[name.split("/", 1)[1].replace("_", " "), *both(name), per_second(fast(name))] for name in names],
        )

    def share():
        # How often each runs in Responder::open of a classical hello: counted in the sources (wire/hello.rs,
        # wire/noise.rs, and snow's IKpsk0: es and ss).
        parts = [
            ("Diffie-Hellman (es, ss)", 2, "primitive/x25519_any_point"),
            ("public key of a secret (own)", 1, "primitive/x25519_base_point"),
            ("check of the sender's key", 1, "primitive/ed25519_key_check"),
            ("its X25519 form", 1, "primitive/ed25519_to_x25519"),
            ("SHA-256 over message 1 (MAC, name, handshake hash)", 3, "primitive/sha256/1659"),
            ("ChaCha20-Poly1305 over the contents", 1, "primitive/chacha20poly1305_1536"),
        ]
        whole = fast("open/message_1/classical_strangers")
        rows = [
            [text, str(n), us(fast(name)), us(n * fast(name)), f"{100 * n * fast(name) / whole:.0f} %"]
            for text, n, name in parts
        ]
        rest = whole - sum(n * fast(name) for _, n, name in parts)
        rows.append(["all else (key schedule, decoding, memory)", "", "", us(rest), f"{100 * rest / whole:.0f} %"])
        rows.append(["**a classical hello, opened**", "", "", us(whole), "100 %"])
        return table(["part", "times", "µs each", "µs", "share"], rows)

    return {
        "handshake": messages([(f"message 1, {plain(way)}", f"message_1/{way}") for way in WAYS] + [("message 2", "message_2")]),
        "transport": messages(
            [(f"transport, bucket {n:,}", f"transport/{n}") for n in [512, 1024, 2048, 4096, 8192, 16384]]
            + [("call message", "call")]
        ),
        "refusals": refusals(),
        "sessions": sessions(),
        "kem": singles("kem"),
        "primitives": singles("primitive"),
        "share": share(),
    }


def main():
    times, sizes = read(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8").splitlines())
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "rustc": subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.split()[1],
    }
    record = {"machine": machine, "bytes": sizes, "times": times}
    (DOCS / "benchmarks").mkdir(exist_ok=True)
    (DOCS / "benchmarks" / "wire.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    made = tables(times, sizes)
    made["machine"] = "{processor}, {cores} cores, Rust {rustc}.".format(**machine)
    page = DOCS / "benchmarks.md"
    text = page.read_text(encoding="utf-8")
    for name, figures in made.items():
        start = f"<!-- figures: {name} -->\n"
        if start not in text:
            sys.exit(f"bench-tables.py: docs/benchmarks.md has no place for {name}")
        before, rest = text.split(start)
        text = before + start + figures + "\n<!-- end -->" + rest.split("<!-- end -->", 1)[1]
    page.write_text(text, encoding="utf-8")


main()

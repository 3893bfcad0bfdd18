#!/usr/bin/env python3
"""bench-tables.py OUTPUT...: writes the figures of runs of benchmarks into docs/. Each is in a file of its name.

docs/benchmarks/NAME.json gets all of them; in docs/benchmarks.md what stands between `<!-- figures: TABLE -->` and
`<!-- end -->` is replaced. The rest of that page is written by hand, and quotes no figures.
"""

import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import sys

import links_tables
import scale_tables

UNITS = {"ps": 1e-3, "ns": 1.0, "µs": 1e3, "ms": 1e6, "s": 1e9}
ROW = re.compile(r"^([│ ]*[├╰]─ )(\S+) +(.*)$")
TIME = re.compile(r"([\d.]+) (ps|ns|µs|ms|s)\b")
DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"


def read(lines):
    """The times in ns by name; and by kind and name, the numbers in lines such as `#bytes NAME 123`."""
    times, counts, path = {}, {}, []
    for line in lines:
        if line.startswith("#"):
            kind, name, number = line[1:].split()
            counts.setdefault(kind, {})[name] = int(number)
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
    return times, counts


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


def readers(times):
    """What gives the fastest time of a benchmark, and what gives that and the median, as text."""
    fast = lambda name: times[name]["fastest_ns"]
    return fast, lambda name: [us(fast(name)), us(times[name]["median_ns"])]


def wire(times, counts):
    """What messages cost."""
    sizes = counts["bytes"]
    fast, both = readers(times)

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


# What is said in a session, and what it does, where the name of the body is not enough.
SAID = {
    "call_key": "`CallKey` (that in use)",
    "call_key_new": "`CallKey` (a new one)",
    "candidate": "`Candidate`",
    "description": "`Description` (2,000 bytes, a new link)",
    "roll": "`Roll` (nothing new)",
    "roll_new": "`Roll` (one person more)",
    "sync": "`Sync` (nothing new)",
    "sync_old": "`Sync` (another roll, another key)",
}

HAPPENS = {
    "tick_nothing_due": "a tick, nothing due",
    "tick_announce_due": "a tick, the own state is announced",
    "announce_repeated": "an announce, nothing new",
    "announce_new": "an announce: muted",
    "done": "the end of an effect",
    "subscribed": "somebody subscribed to a topic",
    "statistics": "statistics of a link",
    "own_candidate": "an own candidate",
    "link_interrupted": "a link is interrupted",
    "command_mute": "a command: mute",
    "command_refused": "a command that is refused",
    "hello_stranger": "a stranger's offer",
    "hello_nonsense": "a first message that makes no sense",
}

READ = {
    "snapshot/made/1": "`snapshot()`, a call of two",
    "snapshot/made/15": "`snapshot()`, a call of sixteen",
    "snapshot/made/15_late": "the same after sixteen other calls of sixteen",
    "snapshot/made/64_calls": "`snapshot()`, a call of two and 63 that ring",
    "snapshot/step/1": "a step's snapshot, a call of two",
    "snapshot/step/15": "a step's snapshot, a call of sixteen",
    "snapshot/step/15_late": "the same after sixteen other calls of sixteen",
    "snapshot/step/64_calls": "a step's snapshot, a call of two and 63 that ring",
    "next_timeout/calls/1": "`next_timeout()`, a call of two",
    "next_timeout/calls/15": "`next_timeout()`, a call of sixteen",
    "next_timeout/calls/64_calls": "`next_timeout()`, a call of two and 63 that ring",
    "input/crowd/tick_nothing_due": "a tick, nothing due, 64 calls",
    "input/crowd/announce_repeated": "an announce, nothing new, 64 calls",
    "input/crowd/hello_nonsense": "a first message that makes no sense, 64 calls",
}

HELD = {
    "unconfirmed": "a first message that waits for confirmation",
    "pending": "a call that rings",
    "pending_most": "a call that rings, its caller says what it can",
    "active/1": "an active call of two",
    "active/15": "an active call of sixteen",
    "participant": "of that, each further participant",
    "active_most/15": "an active call of sixteen, all say what they can",
    "snapshot/1": "a snapshot of a call of two",
    "snapshot/15": "a snapshot of a call of sixteen",
}


def proto(times, counts):
    """What the machine costs."""
    fast, both = readers(times)
    effects, nonsense = counts["effects"], counts["nonsense"]

    def calls():
        rows = []
        for stage, text in [("joined", "until all are joined"), ("whole", "until nothing is left of it")]:
            for n in [2, 4, 16]:
                inputs, name = counts["inputs"][f"{stage}/{n}"], f"call/{stage}/{n}"
                rows.append([f"of {n}, {text}", f"{inputs:,}", *both(name), per_second(fast(name) / inputs)])
        return table(["a call", "inputs", "µs", "median", "inputs a second"], rows)

    def inputs(group, names):
        rows = []
        for name, text in names.items():
            row = [text]
            for size in ["two", "sixteen"]:
                ns = fast(f"{group}/{size}/{name}")
                mark = "\\*" if nonsense[f"{size}/{name}"] else ""
                row += [f"{effects[f'{size}/{name}']}{mark}", us(ns), per_second(ns)]
            rows.append(row)
        return table(["in a call of two", "effects", "µs", "a second", "of sixteen: effects", "µs", "a second"], rows)

    said = [name.split("/")[1] for name in effects if f"packet/{name}" in times and name.startswith("two/")]
    camel = lambda name: "`" + "".join(word.capitalize() for word in name.split("_")) + "`"
    return {
        "machine_calls": calls(),
        "machine_packets": inputs("packet", {name: SAID.get(name, camel(name)) for name in said}),
        "machine_inputs": inputs("input", HAPPENS),
        "machine_reads": table(
            ["what", "µs", "median", "a second"],
            [[text, *both(name), per_second(fast(name))] for name, text in READ.items()],
        ),
        "machine_memory": table(
            ["what", "bytes"], [[text, f"{counts['held'][name]:,}"] for name, text in HELD.items()]
        ),
    }


def links(times, counts):
    """What connections cost, beside the bare engine."""
    both = lambda kind, name: (counts[kind][f"{name}/ours"], counts[kind][f"{name}/bare"])
    ratio = lambda ours, bare: f"{bare / ours:.0f}" if bare > 10 * ours else f"{bare / ours:.2g}"

    def set_up():
        rows = []
        for kind, text in [("connected_us", "connected"), ("heard_us", "first packet")]:
            for way, ways, named in [("direct", 2, "direct"), ("relayed", 6, "over two relays")]:
                for delay in [0, 50, 100]:
                    if f"{way}/{delay}/ours" not in counts[kind]:
                        continue
                    ours, bare = both(kind, f"{way}/{delay}")
                    trips = [f"{n / (delay * 1e3 * ways):.1f}" if delay else "" for n in (ours, bare)]
                    shown = [f"{n / 1e3:,.1f}" for n in (ours, bare)]
                    row = [f"{text}, {named}, {delay} ms", shown[0], trips[0], shown[1], trips[1], ratio(ours, bare)]
                    rows.append(row)
        return table(["from the offer until", "ms", "round trips", "bare: ms", "round trips", "times as long"], rows)

    def added():
        rows = []
        for name, text in [("usual", "median"), ("worst", "longest of 100")]:
            ours, bare = both("added_us", name)
            rows.append([text, f"{ours / 1e3:,.1f}", f"{bare / 1e3:,.1f}"])
        return table(["a relayed packet, one each 20 ms", "added ms", "bare: added ms"], rows)

    def load():
        rows = []
        for n in [1, 4, 16]:
            ours, bare = both("processor_ppm", str(n))
            rows.append([f"processor, one of {n}", f"{ours / 1e4:.2f} %", f"{bare / 1e4:.2f} %", ratio(ours, bare)])
        ours, bare = counts["memory_kb"]["ours"], counts["memory_kb"]["bare"]
        rows.append(["memory, each end", f"{ours} kB", f"{bare} kB", ratio(ours, bare)])
        return table(["a connection", "ours", "bare", "times as much"], rows)

    def writes():
        ns = lambda n: counts["write_ns"][f"{n}/ours"]
        rows = [[f"a track with {n} listeners" if n != 1 else "a track with one listener", f"{ns(n):,}"] for n in [0, 1, 4, 16]]
        rows.append(["of that, one more listener", f"{(ns(16) - ns(1)) / 15:.0f}"])
        rows.append(["bare: the engine's track, which has one", f"{counts['write_ns']['1/bare']:,}"])
        return table(["a frame is handed to", "ns"], rows)

    return {
        "links_set_up": set_up(),
        "links_accepted": links_tables.accepted(counts["accepted_us"], table),
        "links_added": added(),
        "links_load": load(),
        "links_writes": writes(),
    }


# Ticks in a sample of the benchmarks of sound.
TICKS = 1_000

SENDING = {
    "20_ms": "packets of 20 ms, 32 kbit/s, effort 9, in-band redundancy (the defaults)",
    "10_ms": "packets of 10 ms",
    "40_ms": "packets of 40 ms",
    "effort_0": "effort 0",
    "effort_5": "effort 5",
    "effort_10": "effort 10",
    "no_fec": "without in-band redundancy",
    "red": "a copy in RED",
    "dred": "48 kbit/s, deep redundancy of 300 ms",
    "48_kbps_fec_dred": "48 kbit/s, deep redundancy and in-band redundancy",
    "processing": "the defaults with all voice processing",
    "echo": "with echo cancellation only",
    "noise": "with noise suppression only",
    "high_pass": "with the high-pass only",
}

REPAIRS = {
    "repair/of/clean": "nothing lost",
    "repair/of/fec_10": "10 % lost, in-band redundancy",
    "repair/of/red_10": "10 % lost, a copy in RED",
    "repair/of/dred_bursts": "10 % in bursts of four, deep redundancy",
    "repair/of/concealed_10": "10 % lost, concealed by the vocoder",
    "repair/classic": "10 % lost, concealed as libopus does by default",
    "repair/enhanced": "nothing lost, decoders at effort 6",
}


def audio(times, counts):
    """What sound costs."""
    tick = lambda name: times[name]["fastest_ns"] / TICKS
    median = lambda name: times[name]["median_ns"] / TICKS
    share = lambda ns: f"{ns / 1e7:.2%}".replace("%", " %")

    def sending():
        idle, usual = tick("send/with/nothing"), tick("send/with/20_ms")
        rows = []
        for name, text in SENDING.items():
            ns = tick(f"send/with/{name}")
            rows.append([text, us(ns), us(median(f"send/with/{name}")), share(ns), f"{ns / usual:.2f}"])
        rows.append(["silence at effort 0: the engine itself", us(idle), us(median("send/with/nothing")), share(idle), f"{idle / usual:.2f}"])
        return table(["sending", "µs a tick", "median", "of a core", "times the defaults"], rows)

    def receiving():
        none = tick("receive/peers/0")
        rows = []
        for n in [0, 1, 4, 16]:
            ns = tick(f"receive/peers/{n}")
            each = us((ns - none) / n) if n else ""
            rows.append([f"{n} peers" if n != 1 else "1 peer", us(ns), us(median(f"receive/peers/{n}")), share(ns), each])
        return table(["receiving", "µs a tick", "median", "of a core", "µs for each peer"], rows)

    def repairs():
        none, clean = tick("receive/peers/0"), tick("repair/of/clean")
        rows = []
        for name, text in REPAIRS.items():
            ns = tick(name)
            rows.append([text, us((ns - none) / 4), f"{(ns - none) / (clean - none):.2f}"])
        return table(["one of four peers", "µs a tick", "times nothing lost"], rows)

    return {"audio_sending": sending(), "audio_receiving": receiving(), "audio_repairs": repairs()}


WHEN = {"alone": "alone", "met": "after calling four others"}


def reach(times, counts):
    """What it takes to be found."""
    figure, said = counts["reach"], counts["signals"]
    ms = lambda name: f"{figure[name] / 1e3:,.0f}"

    def reaching():
        rows = []
        for name, text in [("one", "one call at a time"), ("all", "all phones call at once")]:
            for what, until in [("reached", "connected with their node"), ("rings", "it rings there")]:
                shares = [ms(f"{name}/{what}/{share}_us") for share in ["median", "p95", "worst"]]
                rows.append([f"{text}: {until}", *shares, f"{figure[f'{name}/failed']:,}"])
        return table(["from the call until", "median ms", "95 % ms", "longest ms", "failed"], rows)

    def idling():
        rows = []
        for name, text in WHEN.items():
            phones, connections = figure["phones"], figure[f"{name}/connections"]
            rows.append(
                [
                    text,
                    f"{2 * connections / (phones + 1):.1f}",
                    f"{figure[f'{name}/phone_kb']:,} kB",
                    f"{figure[heap]:,} kB" if (heap := f"{name}/phone_heap_kb") in figure else "",
                    f"{figure[f'{name}/phone_idle_ppb'] / 1e7:.3f} %",
                    f"{figure[f'{name}/bootstrap_connections']:,}",
                    f"{figure[f'{name}/bootstrap_idle_ppb'] / 1e7:.2f} %",
                ]
            )
        head = ["a phone that does nothing", "connections", "memory", "of that in use", "of a core", "the bootstrap node's connections", "of a core"]
        return table(head, rows)

    def each():
        start, found = (f"{figure[name] / 1e3:,.0f} ms of a core" for name in ["start_us", "found_cpu_us"])
        rows = [["a phone that starts", start], ["the same and its first minutes, in which it is found", found]]
        rows.append(["one of two who are among themselves, at rest", f"{figure['quiet/phone_idle_ppb'] / 1e7:.3f} % of a core"])
        rows.append(["the same, on the heap", f"{figure['quiet/phone_heap_kb']:,} kB"])
        rows.append(["a contact that is not connected, on the heap", f"{figure['contact_bytes']:,} bytes"])
        if "connection_end_heap_bytes" in figure:
            rows.append(["one end of a connection that stays, on the heap", f"{figure['connection_end_heap_bytes'] / 1024:,.0f} kB"])
            rows.append(["the same, at rest", f"{figure['connection_end_idle_ppb'] / 1e7:.4f} % of a core"])
        return table(["what", "costs"], rows)

    def signals():
        kinds = ["hello", "welcome", "session", "call_topic", "link"]
        rows = []
        for name, text in [("set_up", "until both hear each other"), ("talk_30_s", "30 s of talk"), ("end", "hanging up")]:
            rows.append([text, *(str(said[f"{name}/{kind}"]) for kind in kinds)])
        head = ["both ends together", "first messages", "their answers", "in the session", "to the call's topic", "over the link"]
        return table(head, rows)

    return {"reach_times": reaching(), "reach_idle": idling(), "reach_each": each(), "reach_signals": signals()}


# By name: the tables, and the least that a whole run has, in times and in numbers of each kind.
RUNS = {
    "wire": (wire, 40, {"bytes": 12}),
    "audio": (audio, 20, {}),
    "proto": (proto, 80, {"effects": 70, "nonsense": 70, "inputs": 6, "held": 9}),
    "reach": (reach, 0, {"reach": 25, "signals": 15}),
    "scale": (lambda _, counts: scale_tables.scale(counts, table), 0, {"scale": 170}),
    "links": (
        links,
        0,
        {"connected_us": 10, "heard_us": 10, "accepted_us": 16, "added_us": 4, "processor_ppm": 6, "memory_kb": 2, "write_ns": 5},
    ),
}


def whole(name, times, counts):
    _, least, kinds = RUNS[name]
    few = [f"{len(times)} times"] if len(times) < least else []
    few += [f"{len(counts.get(k, {}))} {k}" for k, n in kinds.items() if len(counts.get(k, {})) < n]
    if few:
        sys.exit(f"bench-tables.py: {' and '.join(few)} of {name} are too few: was that a whole run?")


def main():
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "rustc": subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.split()[1],
    }
    page = DOCS / "benchmarks.md"
    text = page.read_text(encoding="utf-8")
    for output in map(pathlib.Path, sys.argv[1:]):
        times, counts = read(output.read_text(encoding="utf-8").splitlines())
        whole(output.name, times, counts)
        record = {"machine": machine, **counts, "times": times}
        made = RUNS[output.name][0](times, counts)
        made[f"{output.name} machine"] = "{processor}, {cores} cores, Rust {rustc}.".format(**machine)
        if output.name in ("reach", "scale"):
            # These cannot be taken in a moment, nor by everybody: when and how they were taken belongs to them.
            today = datetime.date.today().isoformat()
            record["machine"] = {**machine, "date": today}
            if output.name == "reach":
                how = "in release" if counts["reach"]["optimised"] else "in the profile of the tests, which optimises less"
                how = f"{counts['reach']['phones']} phones, {today}, {how}"
            else:
                how = f"{today}, {scale_tables.how(counts)}"
            made[f"{output.name} machine"] = made[f"{output.name} machine"][:-1] + f"; {how}."
        (DOCS / "benchmarks").mkdir(exist_ok=True)
        json_file = DOCS / "benchmarks" / f"{output.name}.json"
        json_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        for name, figures in made.items():
            start = f"<!-- figures: {name} -->\n"
            if start not in text:
                sys.exit(f"bench-tables.py: docs/benchmarks.md has no place for {name}")
            before, rest = text.split(start)
            text = before + start + figures + "\n<!-- end -->" + rest.split("<!-- end -->", 1)[1]
    page.write_text(text, encoding="utf-8")


main()

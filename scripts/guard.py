#!/usr/bin/env python3
"""guard.py [--record] [--only PART] [--json FILE]: compares small, stable measures with tests/guard/limits.json.

Three parts. `instructions`: what the hot paths of the benchmarks execute, counted under valgrind. `tests`: what the ordinary
tests print of allocations, memory, messages and bytes, and hold against limits of their own. `memory`: what a connection takes.

Every path is run with two numbers of rounds, and the difference divided by theirs: what starting costs is no part of it.
Everything is built as the tests are, so the counts are those of that profile, of one compiler, and of processors alike
enough to take the same paths (valgrind shows programs no AVX-512 and no SHA instructions). They say whether something has
become more expensive, not how fast it is.

With --record what is found becomes the limit, with today's date. A figure above its limit fails; one far below is told, so
that the limit can follow.
"""

import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMITS = ROOT / "tests" / "guard" / "limits.json"
CARGO = os.environ.get("CARGO", "cargo")
ALL = ["--workspace", "--locked"]

# Benchmark, its path there, and rounds: enough that the difference is millions of instructions.
PATHS = [
    ("wire", "seal/message_1::classical_strangers", 20),
    ("wire", "open/message_1::classical_strangers", 20),
    ("wire", "open/message_1::hybrid_contacts", 20),
    ("wire", "refuse/2_mac::hybrid_strangers", 1000),
    ("wire", "seal/transport::512", 1000),
    ("wire", "open/transport::512", 1000),
    ("wire", "open/call", 50),
    ("proto", "call/joined::2", 20),
    ("proto", "call/whole::2", 20),
    ("proto", "call/whole::16", 2),
    ("audio", "send/with::20_ms", 1),
    ("audio", "receive/peers::1", 1),
    ("audio", "receive/peers::4", 1),
    ("audio", "repair/of::fec_10", 1),
]

# Of speech in a round of sound: under valgrind, ten as in the benchmarks take more than ten minutes for all paths.
SECONDS = 3

# How much more than recorded is still let pass, by the kind of measure.
TOLERANCE = {
    # The same program counts the same but for addresses and hashes, within 0.1 %; 3 % is what is worth a look.
    "instructions": 0.03,
    # Signals are the same in every call but for one that a timer adds; bytes have libp2p's own talk among them.
    "tests": 0.25,
    # Counted by an allocator: 5 % is another field or two.
    "held": 0.05,
    # Resident memory of 50 connections.
    "memory": 0.25,
}


def run(command, **more):
    shown = " ".join(map(str, command))
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, **more)
    if done.returncode != 0:
        sys.stdout.write(done.stdout or "")
        if more.get("stderr"):
            sys.stdout.write(done.stderr or "")
        sys.exit(f"guard.py: failed ({done.returncode}): {shown}")
    return done


def programs():
    """The built benchmarks, by name."""
    names = sorted({bench for bench, _, _ in PATHS})
    build = [CARGO, "build", *ALL, *(f"--bench={name}" for name in names), "--message-format=json"]
    found = {}
    for line in run(build).stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message.get("target", {}).get("kind") == ["bench"]:
            found[message["target"]["name"]] = message["executable"]
    missing = set(names) - set(found)
    if missing:
        sys.exit(f"guard.py: cargo built no benchmark {', '.join(sorted(missing))}")
    return found


def counted(program, path, rounds):
    """The instructions of a run with so many rounds."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", program]
    # Behind the names of modules, which are nobody's business.
    command += ["--bench", "--color", "never", f"(^|::){path}$", "--sample-count", "1", "--sample-size", str(rounds)]
    done = run(command, stderr=subprocess.PIPE, env=dict(os.environ, BLINK_BENCH_SECONDS=str(SECONDS)))
    name = path.rsplit("::", 1)[-1]
    if not any(re.match(rf"[│ ]*[├╰]─ {re.escape(name)} +\d", line) for line in done.stdout.splitlines()):
        sys.exit(f"guard.py: there is no benchmark {path}:\n{done.stdout}")
    total = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if not total:
        sys.exit(f"guard.py: valgrind counted nothing:\n{done.stderr}")
    return int(total[1].replace(",", ""))


def instructions():
    built = programs()
    runs = [(built[bench], path, n) for bench, path, rounds in PATHS for n in (rounds, 3 * rounds)]
    # What is counted does not depend on what else runs.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = list(pool.map(lambda run: counted(*run), runs))
    for (bench, path, rounds), few, many in zip(PATHS, counts[::2], counts[1::2]):
        yield f"instructions: {bench} {path.replace('::', ' ')}", (many - few) // (2 * rounds), "instructions"


def tests(record):
    """The tests that guard by themselves, and what they print."""
    names = ["guard", "alloc", "wire_alloc", "proto_alloc"]
    command = [CARGO, "test", *ALL, *(f"--test={name}" for name in names), "--", "--nocapture"]
    environment = dict(os.environ, **({"GUARD_RECORD": "1"} if record else {}))
    for line in run(command, env=environment).stdout.splitlines():
        # The name of a test may stand before it.
        if found := re.search(r"#guard (.*)\t(\d+)$", line):
            yield found[1], int(found[2]), "tests"
        elif found := re.search(r"#held (\S+) (\d+)$", line):
            yield f"held bytes: {found[1]}", int(found[2]), "held"


def memory():
    name = "engine::webrtc::bench::load::measure_memory_of_ours"
    command = [CARGO, "test", *ALL, "--lib", "--", "--ignored", "--exact", "--nocapture", name]
    for line in run(command).stdout.splitlines():
        if found := re.search(r"#memory_kb ours (\d+)$", line):
            yield "resident kB per connection", int(found[1]), "memory"


def rustc():
    return subprocess.run(["rustc", "--version"], text=True, stdout=subprocess.PIPE, check=True).stdout.split()[1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--only", choices=["instructions", "tests", "memory"])
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    limits = json.loads(LIMITS.read_text())
    recorded, today = limits["measures"], datetime.date.today().isoformat()

    parts = {"tests": lambda: tests(options.record), "memory": memory, "instructions": instructions}
    rows, seen, bad = [], {}, 0
    for part in [options.only] if options.only else parts:
        found = list(parts[part]())
        if not found:
            sys.exit(f"guard.py: {part} told nothing")
        for name, value, kind in found:
            seen[name] = {"value": value, "tolerance": TOLERANCE[kind], "date": today, "rustc": rustc()}
            limit = recorded.get(name)
            if options.record or limit is None:
                result = "recorded" if options.record else "NO LIMIT: make guard RECORD=1"
                bad += not options.record
                rows.append((name, value, "" if limit is None else limit["value"], "", result))
                continue
            share = value / limit["value"] - 1
            result = "ok"
            if share > limit["tolerance"]:
                result, bad = "MORE", bad + 1
            elif share < -limit["tolerance"]:
                result = "less: record it"
            if limit["rustc"] != rustc() and kind == "instructions":
                result += f" (recorded with Rust {limit['rustc']}, this is {rustc()})"
            rows.append((name, value, limit["value"], f"{share:+.1%}", result))
    if not options.only:
        for name in sorted(set(recorded) - set(seen)):
            rows.append((name, "", recorded[name]["value"], "", "recorded" if options.record else "NOT MEASURED"))
            bad += not options.record

    width = max(len(row[0]) for row in rows)
    print(f"\n{'measure':{width}}  {'now':>12}  {'recorded':>12}  {'':>7}  result")
    for name, now, was, share, result in rows:
        print(f"{name:{width}}  {now:>12}  {was:>12}  {share:>7}  {result}")
    if options.json:
        options.json.write_text(json.dumps(seen, indent=1) + "\n")
    if options.record:
        kept = {} if not options.only else {n: m for n, m in recorded.items() if n not in seen}
        limits["measures"] = dict(sorted({**kept, **seen}.items()))
        LIMITS.write_text(json.dumps(limits, indent=1) + "\n")
        print(f"recorded in {LIMITS.relative_to(ROOT)}")
    if bad:
        sys.exit(f"\n{bad} of {len(rows)} measures are above their limits, or have none. Find what costs more; or, if it is "
                 "worth it, `make guard RECORD=1`, and say in the commit what it is for.")


main()

#!/usr/bin/env python3
"""Scores speech that went through a call. Run by scripts/audio-quality.sh, which brings what this needs.

A call is one run of the example `quality`: its words are a warm-up, in which the two ends learn what the path is like, and
then sentences that are scored one by one. The score of a call is the mean of its sentences, that of a case the median over
seeds.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys

import numpy as np
import pesq

from speech import BOOK, EDGE, NOISE, PROMPT, RATE, narrow, offset, piece, read, write

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What is said: by name of the recording, the rate, the warm-up and the sentences, each of pieces with pauses between,
# 8 to 10 s with the quiet at both ends (ITU-T P.862.3 section 7: 8 to 12 s, 40 to 80 % of it speech).
SPEECH = {
    "book": (16_000, BOOK, ["0890"], [["0870"], ["0880", "0930"], ["0890"], ["0920"]]),
    "prompts": (
        48_000,
        PROMPT,
        ["Front_Center", "Rear_Center", "Front_Left"],
        [
            ["Front_Left", "Front_Right", "Side_Left", "Rear_Center", "Rear_Right", "Side_Right"],
            ["Rear_Left", "Side_Right", "Front_Center", "Rear_Right", "Front_Left", "Side_Left"],
        ],
    ),
}
WARM_UP = 5.0  # seconds: two reports of RTCP, and what the jitter buffer needs for its first judgement
PAUSE = 0.4


@dataclasses.dataclass
class Case:
    name: str
    text: str
    target: float | None
    network: dict
    most: float | None = None  # kbit/s on the wire; of CALLS the delay of Chromium in ms
    ours: dict = dataclasses.field(default_factory=dict)


# The targets of the project, and what the network does.
CASES = [
    Case("clean", "clean, 24 kbit/s", 4.2, {}, None, {"bitrate": 24_000}),
    Case("random10", "10 % random", 3.9, {"loss": 0.10}, 80),
    Case("random20", "20 % random", 3.4, {"loss": 0.20}, 80),
    Case("bursts10", "10 % in bursts of 4", 3.5, {"loss": 0.10, "burst": 4}, 80),
    Case("random30", "30 % random", 2.9, {"loss": 0.30}, 80),
]
# The networks of docs/benchmarks-calls.md, with the rate of calls: 50 ms one way and a normal jitter. What headless Chromium has
# there is the target: PESQ-WB, with what this project wants more, and its delay from mouth to ear.
FAR = {"delay": 50, "deviation": 5, "bitrate": 40_000}
CALLS = [
    Case("call-far", "50 ms, 5 ms of jitter", 4.48, {**FAR}, 130),
    Case("call-jitter30", "50 ms, 30 ms of jitter", 4.45, {**FAR, "deviation": 30}, 218),
    Case("call-random2", "50 ms, 2 % random", 4.33, {**FAR, "loss": 0.02}, 133),
    Case("call-random5", "50 ms, 5 % random", 4.25, {**FAR, "loss": 0.05}, 128),
    Case("call-random10", "50 ms, 10 % random", 4.28, {**FAR, "loss": 0.10}, 130),
    Case("call-random20", "50 ms, 20 % random", 3.94, {**FAR, "loss": 0.20}, 132),
    Case("call-bursts10", "50 ms, 10 % in bursts of 3", 3.46, {**FAR, "loss": 0.10, "burst": 3, "varied": "true"}, 127),
]
# Who listens: a receiver that reads redundant sound (RED), one that does not, and what there is to beat: nothing but the
# decoder's classic concealment, at the same rate and at the most that the bound allows.
CLASSIC = {"adaptive": "false", "fec": "false", "expect": 0, "decoder": 0}
VARIANTS = {
    "red": {},
    "plain": {"reads_red": "false"},
    "classic": {**CLASSIC, "bitrate": 24_000},
    "classic_rich": {**CLASSIC, "bitrate": 52_000},
}
DELAY = 40.0  # ms, fixed, of the network


def compose(work):
    """Writes what is said; by name the file, the reference and where each sentence begins and ends, in samples."""
    made = {}
    for name, (rate, where, warm, sentences) in SPEECH.items():
        path = lambda word: work / "debian" / where.format(word)
        silence = lambda seconds: np.zeros(int(seconds * rate))
        parts, marks, at = [], [], 0

        def add(signal):
            nonlocal at
            parts.append(signal)
            at += len(signal)

        for word in warm:
            add(silence(0.2))
            add(piece(path(word), rate))
        add(silence(max(0.2, WARM_UP - at / rate)))
        warm_up = at / rate
        for words in sentences:
            start = at
            add(silence(EDGE))
            for n, word in enumerate(words):
                add(silence(PAUSE if n else 0))
                add(piece(path(word), rate))
            # Eight seconds at least.
            add(silence(max(EDGE, 8.0 - (at - start) / rate)))
            marks.append((start * RATE // rate, at * RATE // rate))
        said = np.concatenate(parts)
        said += np.random.default_rng(1).normal(0, 10 ** (NOISE / 20), len(said))
        file = work / f"{name}.wav"
        write(file, said, rate)
        reference = narrow(read(file, rate), rate)
        for n, (start, end) in enumerate(marks):
            active = reference[start:end].reshape(-1)[: (end - start) // 320 * 320].reshape(-1, 320)
            power = (active**2).mean(axis=1)
            share = (power > power.max() * 10**-2.5).mean()
            # What counts as speech here is a little stricter than ITU-T P.56.
            if not 0.35 <= share <= 0.8:
                sys.exit(f"{name}, sentence {n}: {share:.0%} of it is speech")
        made[name] = {"file": str(file), "reference": reference, "marks": marks, "warm": warm_up}
    return made


def call(program, work, speech, settings, label):
    """One call: its figures, and the score of each sentence."""
    heard = work / f"heard-{os.getpid()}-{label}.wav"
    arguments = [f"{key}={value}" for key, value in settings.items()]
    run = subprocess.run(
        [program, f"speech={speech['file']}", f"heard={heard}", f"warm={speech['warm']}", *arguments],
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {run.stderr}")
    figures = json.loads(run.stdout)
    degraded = read(heard, RATE)
    if not os.environ.get("KEEP"):
        heard.unlink()
    scores, delays = [], []
    for start, end in speech["marks"]:
        original = speech["reference"][start:end]
        # What belongs to it lies within the second after it.
        later = offset(original, degraded[start : end + RATE])
        copy = degraded[start + max(0, later) :][: end - start]
        scores.append(pesq.pesq(RATE, original, copy, "wb"))
        delays.append(later / RATE + figures["offset"])
    return {**figures, "scores": scores, "mouth_to_ear_ms": 1e3 * statistics.median(delays)}


def score(work, program, made, case, variant, settings, seeds, pool):
    jobs = []
    for seed in seeds:
        for name, speech in made.items():
            arguments = {"delay": DELAY, **case.network, **settings, "seed": seed}
            jobs.append((seed, pool.submit(call, program, work, speech, arguments, f"{case.name}-{variant}-{name}-{seed}")))
    return jobs


def gather(jobs):
    """The median over seeds, and what else is worth telling."""
    by_seed = {}
    for seed, job in jobs:
        by_seed.setdefault(seed, []).append(job.result())
    mean = lambda calls: statistics.mean(score for one in calls for score in one["scores"])
    scores = {seed: mean(calls) for seed, calls in by_seed.items()}
    every = [one for calls in by_seed.values() for one in calls]
    middle = lambda key: statistics.mean(one[key] for one in every)
    return {
        "pesq": round(statistics.median(scores.values()), 3),
        "lowest": round(min(scores.values()), 3),
        "highest": round(max(scores.values()), 3),
        "wire_kbps": round(middle("wire") / 1e3, 1),
        "wire_peak_kbps": round(max(one["wire_peak"] for one in every) / 1e3, 1),
        "loss": round(sum(one["lost"] for one in every) / sum(one["packets"] for one in every), 4),
        "mouth_to_ear_ms": round(statistics.median(one["mouth_to_ear_ms"] for one in every), 1),
        "buffer_ms": round(middle("buffer_ms"), 1),
        **{key: round(middle(key), 1) for key in ["late", "fec", "red", "dred", "concealed_ms", "shortened_ms", "lengthened_ms"]},
    }


def table(results, seeds):
    rows = [
        f"Medians of {seeds} seeds.",
        "",
        "| network | target | **with RED** | lowest to highest | kbit/s on the wire | own delay, ms "
        "| without RED | kbit/s | own delay, ms | classic, 24 kbit/s | classic, 52 kbit/s (kbit/s on the wire) |",
        "| --- |" + " ---: |" * 10,
    ]
    for case in CASES:
        found = results[case.name]
        red, plain, classic, rich = (found.get(name) for name in VARIANTS)
        rows.append(
            f"| {case.text} | {case.target} | **{red['pesq']:.2f}** | {red['lowest']:.2f} to {red['highest']:.2f} "
            f"| {red['wire_kbps']:.1f} | {red['mouth_to_ear_ms'] - DELAY:.0f} | {plain['pesq']:.2f} "
            f"| {plain['wire_kbps']:.1f} | {plain['mouth_to_ear_ms'] - DELAY:.0f} | {classic['pesq']:.2f} "
            "| " + (f"{rich['pesq']:.2f} ({rich['wire_kbps']:.1f})" if rich else "") + " |"
        )
    return "\n".join(rows)


def calls(results, seeds):
    rows = [
        f"Medians of {seeds} seeds; Chromium's are of [whole calls](benchmarks-calls.md), and what is wanted is by how much more than it.",
        "",
        "| network | wanted | **PESQ-WB** | lowest to highest | mouth to ear, ms | Chromium's, ms | kbit/s of sound | concealed in all, ms |",
        "| --- |" + " ---: |" * 7,
    ]
    for case in CALLS:
        found = results[case.name]["red"]
        rows.append(
            f"| {case.text} | {case.target} | **{found['pesq']:.2f}** | {found['lowest']:.2f} to {found['highest']:.2f} "
            f"| {found['mouth_to_ear_ms']:.0f} | {case.most:.0f} | {found['wire_kbps']:.1f} | {found['concealed_ms']:.0f} |"
        )
    return "\n".join(rows)


def publish(results, seeds):
    record = {"seeds": seeds, "pesq": "0.0.4, wideband", "cases": results}
    (ROOT / "docs/benchmarks/audio-quality.json").write_text(json.dumps(record, indent=2) + "\n")
    page = ROOT / "docs/audio-quality.md"
    text = page.read_text(encoding="utf-8")
    for name, rows in [("quality", table(results, seeds)), ("quality calls", calls(results, seeds))]:
        mark = f"<!-- figures: {name} -->\n"
        head, rest = text.split(mark)
        text = f"{head}{mark}{rows}\n{rest[rest.index('<!-- end -->'):]}"
    page.write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--program", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--check", action="store_true", help="judge, and write nothing")
    parser.add_argument("--set", action="append", default=[], help="name=value for the program, instead of all variants")
    options = parser.parse_args()
    made = compose(options.work)
    seeds = range(1, options.seeds + 1)
    results = {}
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = {}
        for case in CASES + CALLS:
            if options.only not in case.name:
                continue
            variants = {name: {**settings, **case.ours} for name, settings in VARIANTS.items()}
            if case in CALLS:
                variants = {"red": {}}
            if case.ours:
                del variants["classic_rich"]
            if options.set:
                variants = {"set": dict(text.split("=", 1) for text in options.set)}
            for variant, settings in variants.items():
                # Without losses and jitter that matters, seeds differ in their phase only.
                jobs[case.name, variant] = score(
                    options.work, options.program, made, case, variant, settings, seeds, pool
                )
        for (name, variant), job in jobs.items():
            found = results.setdefault(name, {})[variant] = gather(job)
            print(f"{name:10} {variant:12} {json.dumps(found)}", flush=True)
    if options.only or options.set:
        return
    if not options.check:
        publish(results, options.seeds)
    missed = [
        f"{case.name}: {results[case.name]['red']}"
        for case in CASES
        if results[case.name]["red"]["pesq"] < case.target
        or results[case.name]["red"]["wire_kbps"] > (case.most or 1e9)
        or (case.network and results[case.name]["red"]["pesq"] <= results[case.name]["classic_rich"]["pesq"])
    ]
    if missed:
        sys.exit("below the target: " + "; ".join(missed))


main()

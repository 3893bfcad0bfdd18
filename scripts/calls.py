#!/usr/bin/env python3
"""Words for whole calls, and scores and tables of what became of them. Run by scripts/calls.sh, which brings what this needs.

`words` writes what both sides say, `report` scores the recordings of a run of `lab-calls` and prints its table; with `--docs`
it also writes docs/benchmarks-calls.md, its plots and the JSON beside them.
"""

import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import platform
import statistics
import sys
import wave

import numpy as np

import plot
from speech import BOOK, EDGE, NOISE, RATE, offset, piece, read, resample, write

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE_RATE = 48_000
# Seconds: a call settles; each sentence that is scored, with the quiet at both ends (ITU-T P.862.3: 8 to 12 s); words
# without pauses, in which an outage may come and after which nobody has to wait for the next word.
SETTLE, SENTENCE, TALK = 5.5, 8.5, 14.0
# Recordings of one book: what settles the call, the sentences, and the talk. None comes again within ten seconds, so each
# moment of a call is unlike those around it.
SAID = {
    "caller": (["0890"], [["0870"], ["0880", "0930"]], ["0920", "0890", "0930"]),
    "callee": (["0870"], [["0890"], ["0920"]], ["0880", "0930", "0870", "0890"]),
}
PAUSE = 0.4
# More than a quarter of a core was taken by something else, or one packet in a hundred was held back by the lab: what was
# measured then is the machine, not the network.
MOST_OTHERS, MOST_LATE = 25.0, 1.0
PEERS = {"blink": "blink", "chromium": "Chromium"}


def words(work, out):
    """Writes what is said, and where the parts begin."""
    out.mkdir(parents=True, exist_ok=True)
    begin = round(SETTLE * RATE)
    for number, (side, (settle, sentences, talk)) in enumerate(SAID.items()):
        voice = lambda name: piece(work / "debian" / BOOK.format(name), RATE)
        said = np.zeros(round((SETTLE + len(sentences) * SENTENCE + TALK) * RATE))

        def put(at, names, pause, end):
            for name in names:
                part = voice(name)[: max(0, end - at)]
                said[at : at + len(part)] += part
                at += len(part) + round(pause * RATE)
            return at

        put(round(0.2 * RATE), settle, 0, begin - round(0.1 * RATE))
        for k, names in enumerate(sentences):
            at = begin + round(k * SENTENCE * RATE)
            end = at + round((SENTENCE - 0.2) * RATE)
            if put(at + round(EDGE * RATE), names, PAUSE, len(said)) > end + round(PAUSE * RATE):
                sys.exit(f"{side}, sentence {k} is too long")
        put(begin + round(len(sentences) * SENTENCE * RATE), talk, 0, len(said))
        said = resample(said, RATE, FILE_RATE)
        said += np.random.default_rng(number).normal(0, 10 ** (NOISE / 20), len(said))
        write(out / f"{side}.wav", said, FILE_RATE)
    layout = {
        "begin": SETTLE,
        "end": SETTLE + 2 * SENTENCE,
        "until": SETTLE + 2 * SENTENCE + TALK,
        "sentences": [[SETTLE + k * SENTENCE, SETTLE + (k + 1) * SENTENCE] for k in range(2)],
    }
    (out / "layout.json").write_text(json.dumps(layout) + "\n")


def heard(path):
    """A recording at 16 kHz, whatever its rate and channels."""
    with wave.open(str(path)) as file:
        if file.getsampwidth() != 2:
            sys.exit(f"{path}: expected 16 bits")
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float64) / 32768
        samples = samples.reshape(-1, file.getnchannels()).mean(axis=1)
        return resample(samples, file.getframerate(), RATE)


def score(out, words_folder, recording):
    """PESQ-WB of each sentence of one recording."""
    import pesq

    layout = json.loads((words_folder / "layout.json").read_text())
    reference = resample(read(words_folder / recording["said"], FILE_RATE), FILE_RATE, RATE)
    copy = heard(out / recording["heard"])
    scores = []
    for start, end in layout["sentences"]:
        original = reference[round(start * RATE) : round(end * RATE)]
        # What belongs to it lies within the second after it.
        at = round((recording["said_from"] + start - recording["heard_from"]) * RATE)
        if at < 0 or at + len(original) > len(copy):
            continue
        at += max(0, offset(original, copy[at : at + len(original) + RATE]))
        try:
            scores.append(round(float(pesq.pesq(RATE, original, copy[at : at + len(original)], "wb")), 3))
        except pesq.NoUtterancesError:
            # Nothing that was heard is speech: the worst there is.
            scores.append(1.0)
    return scores


def scored(out, words_folder):
    """All calls of a run, with scores."""
    calls = [json.loads(line) for line in (out / "calls.jsonl").read_text().splitlines()]
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = [(call, [pool.submit(score, out, words_folder, one) for one in call.get("recordings", [])]) for call in calls]
        for call, parts in jobs:
            if parts:
                call["pesq"] = [part.result() for part in parts]
    for call in calls:
        for recording in call.pop("recordings", []):
            if not os.environ.get("BLINK_LAB_KEEP"):
                (out / recording["heard"]).unlink()
    (out / "calls.json").write_text(json.dumps(calls, indent=1) + "\n")
    return calls


def disturbed(call):
    return call.get("others_pct", 0) > MOST_OTHERS or call.get("lab_late_pct", 0) > MOST_LATE


def flat(values):
    """Numbers of nested lists, without what is not known."""
    for value in values:
        if isinstance(value, list):
            yield from flat(value)
        elif value is not None:
            yield value


def gather(calls):
    """By profile and peer: medians over calls, sides and sentences, and the range of what varies most."""
    found = {}
    for call in calls:
        of = found.setdefault(call["profile"], {}).setdefault(call["peer"], {"rtt_ms": call["rtt_ms"], "calls": []})
        of["calls"].append(call)
    for peers in found.values():
        for name, of in peers.items():
            every = of.pop("calls")
            good = [call for call in every if "error" not in call]
            whole = [call for call in good if call["kind"] == "call"]
            late = [call for call in good if not call["early"]]
            of["failed"] = len(every) - len(good)
            of["disturbed"] = sum(disturbed(call) for call in whole)
            of["whole"], of["set_ups"] = len(whole), len(good)

            def middle(key, of_calls, side=None):
                values = (call.get(key) for call in of_calls)
                values = list(flat(value[side] if side is not None and value else value for value in values))
                return round(statistics.median(values), 2) if values else None

            of["offer_to_ring_ms"] = middle("offer_to_ring_ms", good)
            early = [call for call in good if call["early"]]
            of["early_accept_to_audio_ms"] = [middle("accept_to_audio_ms", early, side) for side in (0, 1)]
            of["accept_to_audio_ms"] = [middle("accept_to_audio_ms", late, side) for side in (0, 1)]
            # Both hear each other when the later one does.
            both = [max(call["offer_to_audio_ms"]) for call in late]
            of["offer_to_audio_ms"] = round(statistics.median(both), 2) if both else None
            for key in ["delay_ms", "delay_p95_ms", "pesq", "wire_kbps", "udp_kbps", "lost_pct", "back_ms", "later_ms"]:
                of[key] = middle(key, whole)
            # Losses fall here or there: the mean says more than the middle.
            concealed = list(flat(call.get("concealed_pct") for call in whole))
            of["concealed_pct"] = round(statistics.mean(concealed), 2) if concealed else None
            # What others do goes into times of the processor too.
            of["cpu_pct"] = middle("cpu_pct", whole)
            scores = sorted(flat(call.get("pesq") for call in whole))
            of["pesq_range"] = [scores[0], scores[-1]] if scores else None
            of["sentences"] = len(scores)
    return found


def text(value, digits=0, end=""):
    return "" if value is None else f"{value:.{digits}f}{end}"


def pair(values, digits=0):
    return ", ".join(text(value, digits) or "-" for value in values) if any(v is not None for v in values) else ""


def trips(values, rtt):
    """In round trips, where those are long enough to count in."""
    return pair([None if value is None else value / rtt for value in values], 1) if rtt >= 20 else ""


# Each column in the page and in a terminal, and its side.
COLUMNS = [
    ("network", "network", "<"),
    ("who", "who", "<"),
    ("offer to ring, ms", "ring ms", ">"),
    ("connected while ringing: accept to audio, ms", "early ms", ">"),
    ("round trips", "RTT", ">"),
    ("not before: accept to audio, ms", "late ms", ">"),
    ("in round trips", "RTT", ">"),
    ("offer to audio both ways, ms", "both ms", ">"),
    ("mouth to ear, ms", "delay ms", ">"),
    ("its 95 %", "95 %", ">"),
    ("PESQ-WB", "PESQ -WB", ">"),
    ("lowest to highest", "lowest to highest", ">"),
    ("concealed %", "conc. %", ">"),
    ("lost %", "lost %", ">"),
    ("kb/s on the wire", "wire kb/s", ">"),
    ("of them UDP", "UDP", ">"),
    ("CPU, % of a core", "CPU %", ">"),
]
SOUND = 8  # columns from here on are of a call that runs
LEGEND = """
ring: from the offer until it rings. early: from accepting until audio, connected while it rang; late: connected after
accepting (Chromium has only that); both: then from the offer until both hear. delay: mouth to ear; 95 %: what so many of its
values are below. PESQ-WB: the median of all sentences. conc.: share of sound that was made up. wire: what one side
sends, from the IP header on; UDP: without signals, of blink. CPU: of one side, in percent of a core. Two numbers: at the caller, at the callee."""


def each(found):
    """By profile, the peers in turns."""
    for profile, peers in found.items():
        for peer in PEERS:
            if peer in peers:
                yield profile, peer, peers[peer]


def rows(found, names):
    for profile, peer, of in each(found):
        rtt = of["rtt_ms"]
        low_high = of["pesq_range"]
        yield [
            names[profile],
            PEERS[peer] + ("" if not of["failed"] else f" ({of['failed']} failed)"),
            text(of["offer_to_ring_ms"]),
            pair(of["early_accept_to_audio_ms"]),
            trips(of["early_accept_to_audio_ms"], rtt),
            pair(of["accept_to_audio_ms"]),
            trips(of["accept_to_audio_ms"], rtt),
            text(of["offer_to_audio_ms"]),
            text(of["delay_ms"]),
            text(of["delay_p95_ms"]),
            text(of["pesq"], 2),
            "" if not low_high else f"{low_high[0]:.2f} to {low_high[1]:.2f}",
            text(of["concealed_pct"], 2),
            text(of["lost_pct"], 1),
            text(of["wire_kbps"]),
            text(of["udp_kbps"]),
            text(of["cpu_pct"], 1),
        ]


def markdown(head, sides, lines):
    marks = [" ---: |" if side == ">" else " --- |" for side in sides]
    out = ["| " + " | ".join(head) + " |", "|" + "".join(marks)]
    return "\n".join(out + ["| " + " | ".join(line) + " |" for line in lines])


def plain(head, sides, lines):
    """For a terminal: heads are broken at spaces."""
    lines = [[cell or "-" for cell in line] for line in lines]
    heads = [name.split() for name in head]
    deep = max(map(len, heads))
    table = [[name[row - deep + len(name)] if row >= deep - len(name) else "" for name in heads] for row in range(deep)] + lines
    widths = [max(len(line[k]) for line in table) for k in range(len(heads))]
    shown = ("  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths)) for line in table)
    return "\n".join(line.rstrip() for line in shown)


def outages(found, names):
    for profile, peer, of in each(found):
        if of["back_ms"] is not None or of["later_ms"] is not None:
            yield f"{names[profile]}, {PEERS[peer]}: audio back {text(of['back_ms']) or '?'} ms after the link, mouth to ear then {text(of['later_ms']) or '?'} ms"


RATIOS = ["network", "offer to audio both ways", "mouth to ear", "PESQ-WB: difference", "concealed", "wire", "CPU"]
BY_NUMBER = ["<", *">>>>>>"]


def ratios(found, names):
    """blink by Chromium; PESQ has no zero, so its difference."""
    for profile, peers in found.items():
        if len(peers) < 2:
            continue
        ours, theirs = peers["blink"], peers["chromium"]

        def ratio(key):
            a, b = ours[key], theirs[key]
            return "" if a is None or not b else f"{a / b:.2f}"

        scores = [ours["pesq"], theirs["pesq"]]
        difference = "" if None in scores else f"{scores[0] - scores[1]:+.2f}"
        keys = ["offer_to_audio_ms", "delay_ms"], ["concealed_pct", "wire_kbps", "cpu_pct"]
        yield [names[profile], *map(ratio, keys[0]), difference, *map(ratio, keys[1])]


def docs(calls, found, names, seeds):
    """The page, the plots and the JSON."""
    whole = [call for call in calls if call["kind"] == "call"]
    bad = sum("error" in call or disturbed(call) for call in whole)
    if bad > len(whole) / 4 and not os.environ.get("FORCE"):
        sys.exit(f"calls.py: {bad} of {len(whole)} calls failed or were disturbed: nothing is written. Try a quieter moment (FORCE=1 writes all the same).")
    missing = [name for name in names if name not in found or len(found[name]) < 2]
    if missing:
        sys.exit(f"calls.py: {', '.join(missing)}: not measured with both, so the page is left as it is")
    folder = ROOT / "docs/benchmarks"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {datetime.date.today().isoformat()}"
    record = {"machine": machine, "seeds": seeds, "profiles": names, "found": found, "calls": calls}
    (folder / "calls.json").write_text(json.dumps(record, indent=1) + "\n")
    series = {PEERS[peer]: peer for peer in PEERS}
    plots = [
        ("calls-pesq.svg", "PESQ-WB: the higher the better", "pesq", 1.0),
        ("calls-delay.svg", "Mouth to ear, ms: the lower the better", "delay_ms", 0.0),
        ("calls-set-up.svg", "Offer to audio both ways, ms: the lower the better", "offer_to_audio_ms", 0.0),
        ("calls-wire.svg", "On the wire, kb/s", "wire_kbps", 0.0),
        ("calls-cpu.svg", "Processor, % of a core: the lower the better", "cpu_pct", 0.0),
    ]
    for file, title, key, low in plots:
        values = {name: [found[profile][peer][key] for profile in names] for name, peer in series.items()}
        (folder / file).write_text(plot.bars(title, list(names.values()), values, low), encoding="utf-8")
    every = list(rows(found, names))

    def part(first, last):
        """A table of the network, who, and these columns."""
        kept = [0, 1, *range(first, last)]
        columns = [COLUMNS[k] for k in kept]
        lines = [[line[k] for k in kept] for line in every]
        return markdown([name for name, _, _ in columns], [side for _, _, side in columns], lines)

    made = {
        "calls machine": f"{machine}; {seeds} seeds, {len(calls)} calls, of which {sum('error' in call for call in calls)} failed and {sum(map(disturbed, whole))} were disturbed.",
        "calls set-up": part(2, SOUND),
        "calls sound": part(SOUND, len(COLUMNS)),
        "calls ratios": markdown(RATIOS, BY_NUMBER, ratios(found, names)),
        "calls plots": "\n\n".join(f"![{title}](benchmarks/{file})" for file, title, _, _ in plots),
        "calls outages": "\n".join(f"- {line}" for line in outages(found, names)),
    }
    page = ROOT / "docs/benchmarks-calls.md"
    content = page.read_text(encoding="utf-8")
    for name, figures in made.items():
        start = f"<!-- figures: {name} -->\n"
        if start not in content:
            sys.exit(f"calls.py: docs/benchmarks-calls.md has no place for {name}")
        before, rest = content.split(start)
        figures = figures or "None."
        content = before + start + figures + "\n<!-- end -->" + rest.split("<!-- end -->", 1)[1]
    page.write_text(content, encoding="utf-8")


def report(options):
    calls = scored(options.out, options.words)
    names = {call["profile"]: call["what"] for call in calls}
    found = gather(calls)
    seeds = len({call["seed"] for call in calls if call["kind"] == "call"})
    print(plain([name for _, name, _ in COLUMNS], [side for _, _, side in COLUMNS], rows(found, names)))
    print(f"{LEGEND}\nEvery call: {options.out / 'calls.json'}")
    for line in outages(found, names):
        print(line)
    between = list(ratios(found, names))
    if between:
        print("\nblink by Chromium\n" + plain(RATIOS, BY_NUMBER, between))
    whole = [call for call in calls if call["kind"] == "call"]
    for call in calls:
        if "error" in call:
            print(f"FAILED: {call['peer']} {call['profile']} {call['kind']} seed {call['seed']}: {call['error'].splitlines()[0]}")
    if any(map(disturbed, whole)):
        which = ", ".join(f"{call['peer']} {call['profile']} {call['seed']}" for call in whole if disturbed(call))
        print(f"\nDisturbed by other work on this machine, so not to be trusted: {which}")
    if options.docs:
        docs(calls, found, names, seeds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["words", "report"])
    parser.add_argument("--work", type=pathlib.Path, help="where scripts/speech.sh has put the recordings")
    parser.add_argument("--words", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--docs", action="store_true")
    options = parser.parse_args()
    if options.what == "words":
        words(options.work, options.words)
    else:
        report(options)


if __name__ == "__main__":
    main()

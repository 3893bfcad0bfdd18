#!/usr/bin/env python3
"""Makes the two recordings in examples/assets/ from Debian's package pocketsphinx-testdata.

They are committed, so nobody needs to run this: it is the exact record of how they came to be. The same input gives
the same bytes. Usage: apt-get install pocketsphinx-testdata, then scripts/make-speech.py [OUTPUT DIRECTORY]
"""
import array
import math
import pathlib
import random
import sys
import wave

RATE = 16_000
DATA = pathlib.Path("/usr/share/pocketsphinx/test/data")
BOOK = "librivox/sense_and_sensibility_01_austen_64kb-"
# Output name: the recordings in order, and the pause after each in seconds.
MADE = {
    "speech-a.wav": [(BOOK + "0880.wav", 0.1), (BOOK + "0890.wav", 0.0)],
    "speech-b.wav": [("cards/002.wav", 0.15), ("cards/003.wav", 0.15), ("cards/001.wav", 0.15), ("cards/005.wav", 0.0)],
}
LEAD = 1.0  # seconds of quiet before the first word: a call settles before it is judged
TAIL = 0.7  # the pause at the end: what is still under way can arrive
ACTIVE = -24.0  # dBFS while somebody speaks, the usual speech level of telephony
PEAK = -3.2  # dBFS, never above
NOISE = -64.0  # dBFS of the room under everything, so that the lead is quiet but not digital zero
FADE = RATE // 50


def samples(path):
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            sys.exit(f"{path}: expected 16 kHz, one channel, 16 bits")
        data = array.array("h", file.readframes(file.getnframes()))
    if sys.byteorder == "big":
        data.byteswap()
    return [value / 32768.0 for value in data]


def high_pass(signal, hertz=70.0):
    """Second-order Butterworth: takes away the constant offset and the rumble of the originals."""
    omega = math.tan(math.pi * hertz / RATE)
    norm = 1 / (1 + math.sqrt(2) * omega + omega * omega)
    a1, a2 = 2 * (omega * omega - 1) * norm, (1 - math.sqrt(2) * omega + omega * omega) * norm
    x1 = x2 = signal[0]  # start settled on the offset: no step at the first sample
    y1 = y2 = 0.0
    out = []
    for x in signal:
        y = norm * (x - 2 * x1 + x2) - a1 * y1 - a2 * y2
        x2, x1, y2, y1 = x1, x, y1, y
        out.append(y)
    return out


def frames(signal):
    size = RATE // 50
    return [sum(v * v for v in signal[i : i + size]) / size for i in range(0, len(signal) - size + 1, size)]


def active_level(signal):
    """Mean power of the 20 ms frames within 25 dB of the loudest, in dBFS."""
    power = frames(signal)
    loud = [p for p in power if p > max(power) * 10**-2.5]
    return 10 * math.log10(sum(loud) / len(loud))


def trim(signal):
    """Cuts the quiet ends off, keeping 60 ms of air, so that pauses are ours."""
    power = frames(signal)
    speech = [i for i, p in enumerate(power) if p > max(power) * 10**-3]
    size = RATE // 50
    return signal[max(0, speech[0] - 3) * size : (speech[-1] + 4) * size]


def fade(signal):
    out = list(signal)
    for i in range(FADE):
        gain = 0.5 - 0.5 * math.cos(math.pi * i / FADE)
        out[i] *= gain
        out[-1 - i] *= gain
    return out


def compose(parts, seed):
    line = [0.0] * int(LEAD * RATE)
    for name, pause in parts:
        # Each sentence is levelled on its own: the originals differ by several dB.
        sentence = fade(trim(high_pass(samples(DATA / name))))
        gain = 10 ** ((ACTIVE - active_level(sentence)) / 20)
        line += [v * gain for v in sentence] + [0.0] * int(pause * RATE)
    line += [0.0] * int(TAIL * RATE)
    noise = random.Random(seed)
    line = [v + noise.gauss(0, 10 ** (NOISE / 20)) for v in line]
    limit = 10 ** (PEAK / 20)
    if max(abs(v) for v in line) > limit:
        sys.exit("a peak is above the limit: lower ACTIVE")
    return line


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "examples/assets")
    for seed, (name, parts) in enumerate(MADE.items(), start=1):
        line = compose(parts, seed)
        data = array.array("h", (round(v * 32767) for v in line))
        if sys.byteorder == "big":
            data.byteswap()
        with wave.open(str(out / name), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(data.tobytes())
        peak = 20 * math.log10(max(abs(v) for v in line))
        print(f"{name}: {len(line) / RATE:.2f} s, active {active_level(line):.1f} dBFS, peak {peak:.1f} dBFS")


main()

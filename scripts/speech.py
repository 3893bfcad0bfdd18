"""Real speech for measurements, and where it is found again in what was heard.

The recordings are in Debian's packages alsa-utils and pocketsphinx-testdata, which scripts/speech.sh unpacks.
"""

import sys
import wave

import numpy as np

RATE = 16_000  # of everything that is scored
BOOK = "usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-{}.wav"
PROMPT = "usr/share/sounds/alsa/{}.wav"
EDGE = 0.7  # seconds of quiet at both ends of a sentence
LEVEL = -26.0  # dBov while somebody speaks (ITU-T P.862.3)
NOISE = -72.0  # dBov under everything: a quiet room, not digital silence


def read(path, rate):
    with wave.open(str(path)) as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, rate):
            sys.exit(f"{path}: expected one channel of 16 bits at {rate} Hz")
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float64) / 32768


def write(path, samples, rate):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2").tobytes())


def active_level(signal, rate):
    """dBov of the 20 ms frames within 25 dB of the loudest."""
    size = rate // 50
    power = (signal[: len(signal) // size * size].reshape(-1, size) ** 2).mean(axis=1)
    return 10 * np.log10(power[power > power.max() * 10**-2.5].mean())


def piece(path, rate):
    """A recording without its constant offset and quiet ends, faded, at the level."""
    signal = read(path, rate)
    # A high-pass of 50 Hz: the offset and the rumble of the originals.
    spectrum = np.fft.rfft(signal)
    hertz = np.fft.rfftfreq(len(signal), 1 / rate)
    signal = np.fft.irfft(spectrum * np.clip((hertz - 30) / 40, 0, 1), len(signal))
    size = rate // 50
    power = (signal[: len(signal) // size * size].reshape(-1, size) ** 2).mean(axis=1)
    loud = np.nonzero(power > power.max() * 1e-3)[0]
    signal = signal[max(0, loud[0] - 3) * size : (loud[-1] + 4) * size].copy()
    fade = np.linspace(0, 1, size)
    signal[:size] *= fade
    signal[-size:] *= fade[::-1]
    return signal * 10 ** ((LEVEL - active_level(signal, rate)) / 20)


def narrow(signal, rate):
    """The same at 16 kHz."""
    if rate == RATE:
        return signal
    factor = rate // RATE
    # A windowed sinc: flat to 7.3 kHz, 80 dB down from 8 kHz on.
    n = np.arange(-480, 481)
    cut = 7650 / rate * 2
    taps = cut * np.sinc(cut * n) * np.kaiser(len(n), 8)
    return np.convolve(signal, taps / taps.sum(), mode="same")[::factor]


def resample(signal, rate, wanted):
    """The same at another rate, by its spectrum: nothing is lost below half of the lower rate."""
    count = round(len(signal) * wanted / rate)
    spectrum = np.fft.rfft(signal)
    kept = min(len(spectrum), count // 2 + 1)
    out = np.zeros(count // 2 + 1, dtype=complex)
    out[:kept] = spectrum[:kept]
    return np.fft.irfft(out, count) * count / len(signal)


def offset(reference, heard):
    """By how many samples `heard` is later."""
    n = 1 << (len(reference) + len(heard)).bit_length()
    product = np.fft.rfft(heard, n) * np.conj(np.fft.rfft(reference, n))
    found = int(np.argmax(np.fft.irfft(product, n)))
    return found if found < n // 2 else found - n

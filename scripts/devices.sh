#!/usr/bin/env bash
# Real devices without hardware: a PulseAudio server of its own with null sinks, through cpal's PulseAudio host and, where
# ALSA has its pulse plugin, through ALSA; one sink is removed and restored in mid-stream. Fails where it cannot run: a
# test that did not run must not look like one that passed. Prints delays, and asserts none. Arguments are those of the
# tests (a name, say).
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

missing=()
command -v pulseaudio >/dev/null || missing+=(pulseaudio)
command -v pactl >/dev/null || missing+=(pulseaudio-utils)
plugin() { compgen -G '/usr/lib*/alsa-lib/libasound_module_pcm_pulse.so' || compgen -G '/usr/lib/*/alsa-lib/libasound_module_pcm_pulse.so'; }
plugin >/dev/null || missing+=(libasound2-plugins)
if [ ${#missing[@]} -ne 0 ]; then
    if ! command -v apt-get >/dev/null; then
        say "${missing[*]} (Debian's names): missing, and this machine has no apt-get. Install them and run this again."
        exit 1
    fi
    become=()
    [ "$(id -u)" -eq 0 ] || become=(sudo -n)
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2 || {
        say "${missing[*]} could not be installed: run 'apt-get update', then 'apt-get install ${missing[*]}' and this again."
        exit 1
    }
fi

# Everything of this server is in a directory of its own; a server that runs already is not touched.
runtime=$(mktemp -d)
chmod 700 "$runtime"
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$runtime"
}
trap finish EXIT
export XDG_RUNTIME_DIR=$runtime PULSE_RUNTIME_PATH=$runtime PULSE_STATE_PATH=$runtime PULSE_CONFIG_PATH=$runtime
export PULSE_SERVER=unix:$runtime/native PULSE_COOKIE=$runtime/cookie
unset DISPLAY DBUS_SESSION_BUS_ADDRESS PIPEWIRE_REMOTE

cat >"$runtime/server.pa" <<PA
load-module module-native-protocol-unix auth-anonymous=1 socket=$runtime/native
load-module module-null-sink sink_name=s48 rate=48000 format=float32le channels=2 norewinds=1
load-module module-null-sink sink_name=s441 rate=44100 format=s16le channels=2 norewinds=1
load-module module-null-sink sink_name=s16 rate=16000 format=float32le channels=1 norewinds=1
load-module module-null-sink sink_name=s96 rate=96000 format=s32le channels=2 norewinds=1
load-module module-remap-source source_name=mic441 master=s441.monitor
set-default-sink s441
set-default-source mic441
PA
# As on a desktop, it runs before ordinary programs where it may.
pulseaudio -n -F "$runtime/server.pa" --daemonize=no --exit-idle-time=-1 --use-pid-file=no \
    --high-priority=yes --realtime=yes --disallow-exit --log-target=file:"$runtime/log" &
server=$!
for _ in $(seq 100); do
    pactl info >/dev/null 2>&1 && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
if ! pactl info >/dev/null 2>&1; then
    say "PulseAudio does not start; its log:"
    cat "$runtime/log" >&2 || true
    exit 1
fi

# The whole workspace, so that this rebuilds nothing that the tests have built, and the other way round; what the other crates'
# libraries leave to be asked for are measurements of theirs. One at a time: the tests share the sinks, and a call hears the
# processor that another one takes.
"${CARGO:-cargo}" test --workspace --locked --lib --test devices --test traces -- \
    --ignored --skip engine::webrtc::bench:: --nocapture --test-threads=1 "$@"

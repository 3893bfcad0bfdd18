# What the scripts of the lab and of real speech need, brought where that can be done. To be sourced.

say() { printf '%s\n' "$*" >&2; }

# lab_ready TARGET COMMAND:PACKAGE...: namespaces, devices and these commands (Debian's packages), or the reason why not.
lab_ready() {
    local target=$1 missing=() need
    shift
    if [ "$(uname -s)" != Linux ] || [ "$(id -u)" -ne 0 ]; then
        say "The lab makes network namespaces and devices, which are Linux's, and only root may. Run this as root on Linux:"
        say "    sudo env \"PATH=\$PATH\" make $target"
        exit 1
    fi
    if [ ! -c /dev/net/tun ]; then
        say "This kernel has no TUN devices (/dev/net/tun): try 'modprobe tun'. A container has to be given the device."
        exit 1
    fi
    # chrt and setpriv are in util-linux, which every Debian has.
    for need in ip:iproute2 setpriv:util-linux "$@"; do
        command -v "${need%%:*}" >/dev/null || missing+=("${need##*:}")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if ! command -v apt-get >/dev/null; then
        say "${missing[*]} (Debian's names): missing, and this machine has no apt-get. Install them and run this again."
        exit 1
    fi
    env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2 || {
        say "${missing[*]} could not be installed: run 'apt-get update', then 'apt-get install ${missing[*]}' and this again."
        exit 1
    }
}

# speech_ready DIRECTORY: Python with PESQ in DIRECTORY/venv, and recordings in DIRECTORY/debian. Nothing is installed outside.
speech_ready() {
    local work=$1 speech=$1/debian package
    mkdir -p "$work"
    if [ ! -x "$work/venv/bin/python" ] || ! "$work/venv/bin/python" -c "import pesq, numpy" 2>/dev/null; then
        python3 -m venv "$work/venv" || {
            say "No virtual environment could be made: 'apt-get install python3-venv python3-dev gcc', then this again."
            exit 1
        }
        # pesq compiles ITU-T's reference code: it needs a C compiler and Python's headers.
        "$work/venv/bin/pip" install --quiet --disable-pip-version-check "pesq==0.0.4" "numpy>=1.26,<3" || {
            say "pesq could not be installed: is there a C compiler, and python3-dev?"
            exit 1
        }
    fi
    # LibriVox recordings (16 kHz) and the prompts of alsa-utils (48 kHz), unpacked and not installed.
    if [ ! -e "$speech/usr/share/sounds/alsa/Front_Center.wav" ] || [ ! -d "$speech/usr/share/pocketsphinx/test/data" ]; then
        command -v apt-get >/dev/null && command -v dpkg >/dev/null || {
            say "The speech is in Debian's packages alsa-utils and pocketsphinx-testdata; without apt-get, unpack both into $speech."
            exit 1
        }
        mkdir -p "$speech"
        (cd "$speech" && apt-get download -q -q alsa-utils pocketsphinx-testdata 2>/dev/null) || {
            say "alsa-utils and pocketsphinx-testdata could not be downloaded: run 'apt-get update' and this again."
            exit 1
        }
        for package in "$speech"/*.deb; do dpkg -x "$package" "$speech"; done
    fi
}

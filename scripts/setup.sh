#!/usr/bin/env bash
# Makes this machine able to build the workspace: Rust new enough, and the few system packages that crates compile
# against. Says nothing and takes no time when nothing is missing. Installs by apt-get as root or through `sudo -n`;
# anywhere else it prints what to install and exits with 1.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

# --- Rust -----------------------------------------------------------------------------------------------------------
if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
    say "Rust is not installed, or cargo and rustc are not in PATH. Install it from https://rustup.rs and run this again."
    exit 1
fi
wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' Cargo.toml | head -n 1)
present=$(rustc --version | sed -n 's/^rustc \([0-9]*\.[0-9]*\.[0-9]*\).*/\1/p')
if [ -z "$wanted" ] || [ -z "$present" ]; then
    say "Cannot compare versions of Rust: Cargo.toml wants '$wanted', rustc is '$present' ($(rustc --version 2>&1))."
    exit 1
fi
if [ "$(printf '%s\n%s\n' "$wanted" "$present" | sort -V | head -n 1)" != "$wanted" ]; then
    say "rustc $present is too old: this workspace needs $wanted or newer. With rustup: rustup update stable"
    exit 1
fi

# --- system packages ------------------------------------------------------------------------------------------------
# What each is for: cc, c++ and cmake build libopus (opusic-sys) and ring; pkg-config finds ALSA, which cpal links on
# Linux; git is how `cargo` and the tests find the tracked files.
missing=() # names on Debian and Ubuntu
have() { command -v "$1" >/dev/null; }
have cc || missing+=(gcc libc6-dev)
have c++ || missing+=(g++)
have make || missing+=(make)
have cmake || missing+=(cmake)
have git || missing+=(git)
if [ "$(uname -s)" = Linux ]; then
    have pkg-config || missing+=(pkg-config)
    { have pkg-config && pkg-config --exists alsa; } || missing+=(libasound2-dev)
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if ! have apt-get; then
    say "Missing here (Debian's names): ${missing[*]}. Install them and run this again:"
    case "$(uname -s)" in
        Darwin) say "    xcode-select --install; brew install cmake" ;;
        Linux)
            if have dnf; then
                say "    sudo dnf install gcc gcc-c++ make cmake git pkgconf-pkg-config alsa-lib-devel"
            elif have pacman; then
                say "    sudo pacman -S --needed base-devel cmake git pkgconf alsa-lib"
            elif have zypper; then
                say "    sudo zypper install gcc gcc-c++ make cmake git pkgconf alsa-devel"
            elif have apk; then
                say "    apk add build-base cmake git pkgconf alsa-lib-dev"
            else
                say "    a C and a C++ compiler, make, cmake, git, pkg-config, the ALSA development files"
            fi
            ;;
        *) say "    a C and a C++ compiler, make, cmake, git" ;;
    esac
    exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if have sudo && sudo -n true 2>/dev/null; then
        as_root=(sudo -n)
    else
        say "Missing: ${missing[*]}. This user cannot install packages without a password; run this, then try again:"
        say "    sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
        exit 1
    fi
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { # waits for another apt-get instead of failing, and never asks
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -q -y "$@" >>"$log" 2>&1
}
install() {
    # One broken source among several fails the update, and need not be the one that has our packages.
    apt update || say "apt-get update failed; trying with the package lists that are here"
    apt install --no-install-recommends "${missing[@]}"
}
say "Installing ${missing[*]} (apt-get)"
if ! install; then
    say "apt-get failed; once more in 5 s"
    sleep 5
    if ! install; then
        tail -n 20 "$log" >&2
        say "apt-get could not install ${missing[*]}: the end of its output is above. Install them by hand and try again."
        exit 1
    fi
fi

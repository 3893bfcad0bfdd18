#!/usr/bin/env bash
# fuzz.sh [SECONDS [TARGET...]]: runs each fuzz target of fuzz/ that long (60), two at a time, and prints a table.
# fuzz.sh build: builds the targets, and runs none.
# fuzz.sh seeds: writes the seeds in fuzz/corpus anew.
# fuzz.sh self-check: tests what the targets share, and sees that a panic behind a rare branch is found.
#
# Coverage comes from the compiler's own pass, which the stable toolchain has; libFuzzer comes with its crate and needs
# a C++ compiler. What a run learns stays in the target folder, so that the next one goes on from there.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=$target

seconds=60
case "${1:-}" in
    seeds)
        exec cargo run --quiet --release --locked --manifest-path fuzz/Cargo.toml --bin seeds
        ;;
    build | self-check) ;;
    '') ;;
    *[!0-9]* | 0*) # libFuzzer takes 0 for "no end"
        echo "fuzz.sh: '$1' is no number of seconds" >&2
        exit 2
        ;;
    *)
        seconds=$1
        shift
        ;;
esac

# Which edges ran, and what was compared with what. `--target` keeps the flags off build scripts and macros, which do not
# link libFuzzer.
build() {
    RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing" \
        cargo build --release --locked --manifest-path fuzz/Cargo.toml --target "$host" "$@"
}
programs=$target/$host/release

# A finding is a crash, more than 512 MiB, or more than 5 s for one input.
limits=(-rss_limit_mb=512 -timeout=5 -print_final_stats=1)

# The longest input: the largest frame has 16,418 bytes, most of what is decoded far fewer.
longest() {
    case $1 in
        frame | transport) echo 16500 ;;
        hello_contents | packet_contents | opus_file | record) echo 4096 ;;
        kem_key) echo 1300 ;;
        call_id | node_id | public_key) echo 128 ;;
        *) echo 512 ;;
    esac
}

# The edges and features that the inputs in these folders reach.
reach() {
    local program=$1
    shift
    "$programs/$program" "${limits[@]}" -max_len="$(longest "$program")" -runs=0 "$@" 2>&1 |
        sed -n 's/^#[0-9]*\tINITED cov: \([0-9]*\) ft: .*/\1/p' | tail -n 1
}

# As many strings of random bytes as there are seeds, of the same lengths: what a blind search reaches.
random() {
    local into=$1 seed
    shift
    mkdir -p "$into"
    for seed in "$@"; do
        head -c "$(stat -c %s "$seed")" /dev/urandom >"$into/$(basename "$seed")"
    done
}

# Runs one target, and writes its line of the table.
run() {
    local name=$1 folder=$target/corpus/$1 log=$target/log/$1 noise blind seeds before after status=0 result=ok
    mkdir -p "$folder" "$target/log" "$target/rows" "fuzz/artifacts/$name"
    noise=$(mktemp -d)
    random "$noise" "fuzz/corpus/$name/"*
    blind=$(reach "$name" "$noise")
    rm -rf "$noise"
    seeds=$(reach "$name" "fuzz/corpus/$name")
    before=$(find "$folder" -type f | wc -l)
    "$programs/$name" "${limits[@]}" -max_len="$(longest "$name")" -max_total_time="$seconds" \
        -artifact_prefix="fuzz/artifacts/$name/" "$folder" "fuzz/corpus/$name" >"$log" 2>&1 || status=$?
    after=$(find "$folder" -type f | wc -l)
    figure() { sed -n "s/^stat::$1: *//p" "$log"; }
    local cov
    cov=$(grep -o 'cov: [0-9]* ft: [0-9]*' "$log" | tail -n 1 | tr -dc '0-9 ' | tr -s ' ')
    if [ "$status" -ne 0 ]; then
        result="FOUND (exit code $status)"
    fi
    read -r edges features <<<"$cov"
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$(figure number_of_executed_units)" \
        "$(figure average_exec_per_sec)" "${blind:-?}" "${seeds:-?}" "${edges:-?}" "${features:-?}" \
        "$((after - before))" "$(figure peak_rss_mb)" "$result" >"$target/rows/$name"
}

if [ "${1:-}" = self-check ]; then
    cargo test --quiet --release --locked --manifest-path fuzz/Cargo.toml --lib
    build --bin planted
    folder=$(mktemp -d)
    if "$programs/planted" "${limits[@]}" -max_len=64 -max_total_time=60 -artifact_prefix="$folder/" \
        >"$folder/log" 2>&1; then
        echo "the planted panic was not found: these targets find nothing" >&2
        exit 1
    fi
    grep -q 'the planted finding' "$folder/log" || { tail -n 20 "$folder/log" >&2; exit 1; }
    echo "the planted panic was found after $(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/log") executions"
    rm -rf "$folder"
    exit 0
fi

names=()
[ "${1:-}" = build ] || names=("$@")
if [ ${#names[@]} -eq 0 ]; then
    for file in fuzz/targets/*.rs; do
        names+=("$(basename "$file" .rs)")
    done
fi
build "${names[@]/#/--bin=}"
[ "${1:-}" != build ] || exit 0
rm -rf "$target/rows"
for name in "${names[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
        wait -n || true
    done
    run "$name" &
done
wait

{
    printf 'target\texecutions\tper second\tedges: random\tseeds\tnow\tfeatures\tnew inputs\tMiB\tresult\n'
    for name in "${names[@]}"; do
        cat "$target/rows/$name"
    done
} | column -t -s $'\t'

found=0
for name in "${names[@]}"; do
    if ! grep -q $'\tok$' "$target/rows/$name"; then
        found=1
        printf '\n%s: the end of %s\n' "$name" "$target/log/$name"
        tail -n 15 "$target/log/$name"
        find "fuzz/artifacts/$name" -type f -newer "$programs/$name" | while read -r input; do
            printf 'input:  %s\nrepeat: %s %s\n' "$input" "$programs/$name" "$input"
        done
    fi
done
exit $found

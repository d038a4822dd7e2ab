# How the demo tells its story and checks it; sourced by play.
#
# Every command is shown and its output kept in $dir/run/said, which `see` looks into. A command that fails ends the demo.

say() {
    printf '\n\033[1m# %s\033[0m\n' "$*"
}

run() {
    printf '\033[36m$ %s\033[0m\n' "$*"
    "$@" 2>&1 | tee "$dir/run/said"
}

quietly() {
    printf '\033[36m$ %s\033[0m\n' "$*"
    "$@" >"$dir/run/said" 2>&1 || { cat "$dir/run/said"; return 1; }
}

# pkcs11-tool on one token: a program that knows nothing of Lockstep.
token() {
    local label=$1
    shift
    printf '\033[36m$ pkcs11-tool --token-label %s %s\033[0m\n' "$label" "$*"
    pkcs11-tool --module "$softhsm" --token-label "$label" --login --pin env:PIN "$@" >"$dir/run/said" 2>&1 ||
        { cat "$dir/run/said"; return 1; }
    grep -vE '^Using|^$' "$dir/run/said" || true
}

# The token must refuse with the very error that says "this key may not do that".
token_refuses() {
    if token "$@" >"$dir/run/shown"; then
        echo "  but $1 did not refuse"
        return 1
    fi
    head -n 1 "$dir/run/shown"
    see 'CKR_KEY_FUNCTION_NOT_PERMITTED'
    echo "  refused: CKR_KEY_FUNCTION_NOT_PERMITTED"
}

see() {
    local word
    for word in "$@"; do
        grep -qiF -- "$word" "$dir/run/said" || { echo "  expected to see: $word"; return 1; }
    done
}

see_not() {
    ! grep -qF -- "$1" "$dir/run/said" || { echo "  did not expect to see: $1"; return 1; }
}

must() {
    "$@" || { echo "  failed: $*"; return 1; }
}

# until_seen SECONDS WORD COMMAND...: repeats the command until its output has the word.
until_seen() {
    local seconds=$1 word=$2 began
    shift 2
    began=$(date +%s%N)
    printf '\033[36m$ %s\033[0m\n' "$*"
    until "$@" >"$dir/run/said" 2>&1 && grep -qiF -- "$word" "$dir/run/said"; do
        if [ $((($(date +%s%N) - began) / 1000000000)) -ge "$seconds" ]; then
            cat "$dir/run/said"
            echo "  not seen within $seconds s: $word"
            return 1
        fi
        sleep 0.1
    done
    cat "$dir/run/said"
    echo "  (noticed after $((($(date +%s%N) - began) / 1000000)) ms)"
}

json_field() {
    grep -oE "\"$1\" *: *\"[^\"]*\"" | head -n 1 | sed -E 's/.*: *"([^"]*)"/\1/'
}

tell_failure() {
    echo
    echo "the demo failed; logs are in target/demo/logs:"
    tail -n 3 "$dir"/logs/*.log 2>/dev/null || true
}

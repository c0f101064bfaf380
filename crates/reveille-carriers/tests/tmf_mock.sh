#!/bin/sh
# Keeps a tmf-mock for tests at one address until standard input ends; then kills it.
#
#   tmf_mock.sh PROGRAM ADDRESS PORT
#
# Whoever starts it holds the other end of standard input, which the system closes when that process dies, however it
# dies. Once the mock accepts connections, "ready" is printed. Then each line read is an order, answered by "done":
#
#   freeze      it is connected to all the same, and reads nothing
#   thaw
#
# What fails is answered by lines that say why, and ends all. There is no stop: it would forget all that it had.
set -eu
trap '' PIPE

tries_max=3000 # of 10 ms
mock=
log=$(mktemp)

end() {
    [ -z "$mock" ] || kill -KILL "$mock" 2>/dev/null || true
    rm -f "$log"
}
trap end EXIT
trap 'exit 1' HUP INT TERM

failed() {
    echo "$1"
    tail -n 20 "$log"
    exit 1
}

[ -x "$1" ] || failed "tmf-mock is missing: ./check makes it, as does: bash tests/outside/environment.sh tmf-mock tmf-mock==0.1.1"
"$1" start --host "$2" --port "$3" --apis 638 --no-seed </dev/null >"$log" 2>&1 &
mock=$!
tries=0
until grep -q 'Uvicorn running' "$log"; do
    tries=$((tries + 1))
    [ $tries -lt $tries_max ] && kill -0 "$mock" 2>/dev/null || failed "tmf-mock is not ready"
    sleep 0.01
done
echo "ready"

while read -r order; do
    case $order in
        freeze)
            kill -STOP "$mock"
            until grep -q ') T ' "/proc/$mock/stat"; do sleep 0.01; done
            ;;
        thaw) kill -CONT "$mock" ;;
        *) failed "an unknown order: $order" ;;
    esac
    echo "done"
done

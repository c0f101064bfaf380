#!/bin/sh
# Keeps an osmo-hlr for tests at one loopback address until standard input ends; then kills it and removes all of it.
#
#   hlr.sh ADDRESS            its ports are fixed, so each has an address of its own
#
# Whoever starts it holds the other end of standard input, which the system closes when that process dies, however it
# dies. Once the HLR accepts connections, "ready FOLDER" is printed. Then each line read is an order, answered by "done":
#
#   stop        as `kill -9` does
#   start       at the same address, with what it had
#   freeze      it is connected to all the same, and reads nothing
#   thaw
#
# What fails is answered by lines that say why, and ends all.
set -eu
trap '' PIPE # nobody may be left to read what is printed, and the folder is to be removed all the same

address=$1
tries_max=2000 # of 10 ms

command -v osmo-hlr >/dev/null || {
    echo "osmo-hlr is missing: apt-get install osmo-hlr"
    exit 1
}

# In memory where that is possible: an HLR syncs each change to its disk.
shared=/dev/shm
[ -w $shared ] || shared=${TMPDIR:-/tmp}
folder=$(mktemp -d "$shared/reveille-hlr.XXXXXX")
hlr=

end() {
    [ -z "$hlr" ] || stop
    cd /
    rm -rf "$folder"
}
failed() {
    echo "$1"
    tail -n 20 hlr.log
    exit 1
}
awaits() { # WHAT COMMAND…
    what=$1
    shift
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt $tries_max ] && kill -0 "$hlr" 2>/dev/null || failed "osmo-hlr is not $what"
        sleep 0.01
    done
}
listens() { grep -q 'CTRL at' hlr.log; } # the last of its ports
stands() { grep -q ') T ' "/proc/$hlr/stat"; }

start() {
    : >hlr.log
    osmo-hlr -c hlr.cfg </dev/null >>hlr.log 2>&1 &
    hlr=$!
    awaits ready listens
}
stop() {
    kill -KILL "$hlr" 2>/dev/null || true
    wait "$hlr" 2>/dev/null || true
    hlr=
}

trap end EXIT
trap 'exit 1' HUP INT TERM
cd "$folder"
cat >hlr.cfg <<CFG
log stderr
 logging filter all 1
 logging color 0
 logging level set-all notice
line vty
 bind $address
ctrl
 bind $address
hlr
 database ./hlr.db
 gsup
  bind ip $address
CFG
start
echo "ready $folder"

while read -r order; do
    case $order in
        start) start ;;
        stop) stop ;;
        freeze)
            kill -STOP "$hlr"
            awaits frozen stands
            ;;
        thaw) kill -CONT "$hlr" ;;
        *) failed "an unknown order: $order" ;;
    esac
    echo "done"
done

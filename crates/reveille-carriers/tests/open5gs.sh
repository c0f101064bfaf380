#!/bin/sh
# Keeps a subscriber database and a nextepc-hss that reads it, for tests at one loopback address, until standard input ends;
# then kills both and removes all of it.
#
#   open5gs.sh ADDRESS            the HSS's port is fixed, so each has an address of its own
#
# Whoever starts it holds the other end of standard input, which the system closes when that process dies, however it
# dies. Once both accept connections, "ready" is printed. Then each line read is an order, answered by "done"; it is the
# database's, and the HSS goes on and connects again:
#
#   stop        as `kill -9` does
#   start       at the same address, with what it had
#   freeze      it is connected to all the same, and reads nothing
#   thaw
#   lock        from the next start on, it wants a name and a password
#
# What fails is answered by lines that say why, and ends all.
set -eu
trap '' PIPE # nobody may be left to read what is printed, and the folder is to be removed all the same

address=$1
tries_max=3000 # of 10 ms
starts_max=20  # one that was killed may find its folder busy for a moment
repository=$(cd "$(dirname "$0")/../../.." && pwd)
environment=${REVEILLE_CACHE:-$repository/target/outside}/secantus

missing() {
    echo "$1"
    exit 1
}
command -v nextepc-hssd >/dev/null || missing "nextepc-hss is missing: apt-get install --no-install-recommends nextepc-hss"
command -v openssl >/dev/null || missing "openssl is missing: apt-get install openssl"
[ -e "$environment/complete" ] || missing "secantusdb is missing: run $repository/tests/outside/secantus.sh"

# In memory where that is possible: the database syncs each change to its disk.
shared=/dev/shm
[ -w $shared ] || shared=${TMPDIR:-/tmp}
folder=$(mktemp -d "$shared/reveille-open5gs.XXXXXX")
database=
hss=
lock=

end() {
    if [ -n "$hss" ]; then
        kill -KILL "$hss" 2>/dev/null || true
        rm -f "/dev/shm/mongoc-$hss" # counters of its client library, which it leaves behind
    fi
    [ -z "$database" ] || stop
    cd /
    rm -rf "$folder"
}
failed() {
    echo "$1"
    tail -n 20 ./*.log
    exit 1
}
awaits() { # PROCESS COMMAND…: whether that comes true before the process ends
    process=$1
    shift
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt $tries_max ] && kill -0 "$process" 2>/dev/null || return 1
        sleep 0.01
    done
}
listens() { # PORT, in hexadecimal: whether the system has a listening socket there
    grep -q " $hexadecimal:$1 00000000:0000 0A " /proc/net/tcp
}
stands() { grep -q ') T ' "/proc/$database/stat"; }

start() {
    starts=0
    while true; do
        # shellcheck disable=SC2086 # nothing, or one word
        "$environment/bin/secantusd-py" --host "$address" --port 27017 --storage-path db --sync-on-commit \
            --cache-size 256M --enable-test-commands --log-level WARNING $lock </dev/null >>database.log 2>&1 &
        database=$!
        awaits "$database" listens 6989 && return
        starts=$((starts + 1))
        [ $starts -lt $starts_max ] || failed "the database does not start"
        sleep 0.1
    done
}
stop() {
    kill -KILL "$database" 2>/dev/null || true
    wait "$database" 2>/dev/null || true
    database=
}

trap end EXIT
trap 'exit 1' HUP INT TERM
cd "$folder"
# As in /proc/net/tcp: the octets of the address in the order of this machine, which is the reverse.
hexadecimal=$(echo "$address" | awk -F. '{ printf "%02X%02X%02X%02X", $4, $3, $2, $1 }')
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=hss.localdomain -days 2 \
    -keyout key.pem -out cert.pem 2>/dev/null
cat >freeDiameter.conf <<CONF
Identity = "hss.localdomain";
Realm = "localdomain";
No_SCTP;
TwTimer = 3600;
ListenOn = "$address";
TLS_Cred = "$folder/cert.pem", "$folder/key.pem";
TLS_CA = "$folder/cert.pem";
LoadExtension = "dict_rfc5777.so";
LoadExtension = "dict_mip6i.so";
LoadExtension = "dict_nasreq.so";
LoadExtension = "dict_nas_mipv6.so";
LoadExtension = "dict_dcca.so";
LoadExtension = "dict_dcca_3gpp.so";
LoadExtension = "dict_s6a.so";
ConnectPeer = "mme.localdomain" { ConnectTo = "$address"; Port = 9; No_TLS; };
CONF
cat >hss.conf <<CONF
db_uri: mongodb://$address:27017/nextepc
logger:
    file: $folder/hss.log
parameter:
hss:
    freeDiameter: $folder/freeDiameter.conf
CONF
start
nextepc-hssd -f hss.conf -l hss.log -p hss.pid </dev/null >>out.log 2>&1 &
hss=$!
awaits "$hss" listens 0F1C || failed "nextepc-hss does not start"
echo "ready"

while read -r order; do
    case $order in
        start) start ;;
        stop) stop ;;
        freeze)
            kill -STOP "$database"
            awaits "$database" stands || failed "the database is not frozen"
            ;;
        thaw) kill -CONT "$database" ;;
        lock) lock=--auth ;;
        *) failed "an unknown order: $order" ;;
    esac
    echo "done"
done

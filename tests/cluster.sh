#!/bin/sh
# Keeps a private PostgreSQL cluster for tests until standard input ends; then stops it and removes all of it.
#
#   cluster.sh [SETTING…]     each a line of postgresql.conf, such as "synchronous_commit = off"
#   cluster.sh --standby-of PORT
#                             follows the cluster at that port, as it is then, and has its settings
#
# Whoever starts it holds the other end of standard input, which the system closes when that process dies, however it
# dies; so nobody need remember to stop the cluster. Once it accepts connections, at 127.0.0.1 and of the user
# postgres without a password, "ready PORT FOLDER PROGRAMS" is printed. Then each line read is an order, answered by
# the line "done":
#
#   stop fast|immediate       immediate is as good as a crash: the next start recovers
#   start                     at the same port
#   freeze                    it can be connected to, and reads nothing
#   thaw
#   promote                   a standby follows nobody any more
#
# What fails is answered by lines that say why, and ends all.
set -eu
trap '' PIPE # nobody may be left to read what is printed, and the folder is to be removed all the same

ready_within=120 # seconds, with recovery
stopped_within=60

initdb=$(ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n 1) # Debian's are not on the path
[ -n "$initdb" ] || initdb=$(command -v initdb) || {
    echo "PostgreSQL's programs are missing: run ./check, or install Debian's package postgresql"
    exit 1
}
programs=$(dirname "$initdb")

frozen=no
owner=
if [ "$(id -u)" = 0 ]; then # as whom the programs refuse to run
    owner="setpriv --reuid=postgres --regid=postgres --clear-groups"
fi

own() {
    program=$1
    shift
    $owner "$programs/$program" "$@"
}

start() {
    own pg_ctl start --silent --wait --timeout=$ready_within --pgdata=data --log=server.log --options="-p $port" >/dev/null
}

stop() {
    own pg_ctl stop --silent --wait --timeout=$stopped_within --pgdata=data --mode="$1"
}

# Its first process first, so that it starts no others meanwhile. One of the others may end just then.
all_processes() {
    first=$(head -n 1 data/postmaster.pid)
    kill "$1" "$first"
    kill "$1" $(cat "/proc/$first/task/$first/children") 2>/dev/null || true
}

end() {
    [ $frozen = no ] || all_processes -CONT || true
    [ ! -e data/postmaster.pid ] || stop immediate >/dev/null 2>&1 || true
    cd /
    rm -rf "$folder"
}
failed() {
    echo "$1"
    tail -n 20 "$2"
    exit 1
}

folder=$(mktemp -d "${TMPDIR:-/tmp}/reveille-cluster.XXXXXX")
trap end EXIT
trap 'exit 1' HUP INT TERM
cd "$folder"
[ -z "$owner" ] || chown postgres: .
if [ "${1:-}" = --standby-of ]; then
    own pg_basebackup --pgdata=data --host=127.0.0.1 --port="$2" --username=postgres --write-recovery-conf \
        --checkpoint=fast --no-sync >backup.log 2>&1 || failed "pg_basebackup failed" backup.log
else
    own initdb --pgdata=data --username=postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync >initdb.log 2>&1 ||
        failed "initdb failed" initdb.log
    {
        echo "listen_addresses = '127.0.0.1'"
        echo "unix_socket_directories = ''"
        echo "max_connections = 400"
        echo "shared_buffers = 128MB"
        for setting in "$@"; do echo "$setting"; done
    } >>data/postgresql.conf
fi

# A port may be taken after one has looked, so the server itself tries them: below those that Linux gives to outgoing
# connections, which would take it while the server is stopped.
started=no
for port in $(shuf -i 20000-31999 -n 20); do
    if start 2>/dev/null; then
        started=yes
        break
    fi
    grep -q 'could not create any TCP/IP sockets' server.log || break
done
[ $started = yes ] || failed "PostgreSQL did not start" server.log
echo "ready $port $folder $programs"

while read -r order mode; do
    case $order in
        start) start || failed "PostgreSQL did not start again" server.log ;;
        stop) stop "$mode" || failed "PostgreSQL did not stop" server.log ;;
        freeze)
            all_processes -STOP
            frozen=yes
            ;;
        thaw)
            all_processes -CONT
            frozen=no
            ;;
        promote)
            own pg_ctl promote --silent --wait --timeout=$ready_within --pgdata=data ||
                failed "PostgreSQL was not promoted" server.log
            ;;
        *) echo "an unknown order: $order"; exit 1 ;;
    esac
    echo "done"
done

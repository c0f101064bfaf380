#!/bin/sh
# Keeps a FreeRADIUS for tests at one loopback address until standard input ends; then kills it and removes all of it.
#
#   radius.sh ADDRESS sqlite                its users are in FOLDER/radius.db, which it makes
#   radius.sh ADDRESS postgresql PORT NAME  its users are in that database of 127.0.0.1, which has its tables already
#
# Whoever starts it holds the other end of standard input, which the system closes when that process dies, however it
# dies. Once it answers, "ready FOLDER" is printed. Its secret is "testing123". Access is asked for at port 1812; a user
# is ended at port 3799: one whose name ends with "-gone" is not there, one with "-kept" is kept. What it was sent
# there is in FOLDER/ended.log. Where its database fails, it says nothing. What fails is answered by lines that say why.
set -eu
trap '' PIPE # nobody may be left to read what is printed, and the folder is to be removed all the same

address=$1 dialect=$2 port=${3:-} name=${4:-}
tries_max=2000 # of 10 ms
packaged=/etc/freeradius/3.0/mods-config/sql/main/$dialect

PATH=$PATH:/usr/sbin
for program in freeradius radclient; do
    command -v $program >/dev/null || {
        echo "$program is missing: apt-get install --no-install-recommends freeradius freeradius-utils freeradius-postgresql"
        exit 1
    }
done
[ -r "$packaged/queries.conf" ] || {
    echo "$packaged cannot be read: install freeradius-postgresql, and be root or of the group freerad"
    exit 1
}

# In memory where that is possible: SQLite syncs each change to its disk.
shared=/dev/shm
[ -w $shared ] || shared=${TMPDIR:-/tmp}
folder=$(mktemp -d "$shared/reveille-radius.XXXXXX")
server=

end() {
    [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
    cd /
    rm -rf "$folder"
}
trap end EXIT
trap 'exit 1' HUP INT TERM
cd "$folder"

if [ "$dialect" = sqlite ]; then
    place="sqlite {
            filename = $folder/radius.db
            busy_timeout = 5000
            bootstrap = $packaged/schema.sql
        }"
    driver=rlm_sql_sqlite
else
    place="radius_db = \"host=127.0.0.1 port=$port dbname=$name user=postgres sslmode=disable gssencmode=disable\""
    driver=rlm_sql_postgresql
fi

cat >radiusd.conf <<CONF
name = radius
prefix = /usr
libdir = /usr/lib/freeradius
logdir = $folder
run_dir = $folder
pidfile = $folder/radiusd.pid
cleanup_delay = 0
log {
    destination = stderr
}
security {
    reject_delay = 0
}
thread pool {
    start_servers = 2
    max_servers = 4
    min_spare_servers = 1
    max_spare_servers = 4
}
client tests {
    ipaddr = 127.0.0.0/8
    secret = testing123
}
modules {
    always ok {
        rcode = ok
    }
    always reject {
        rcode = reject
    }
    always handled {
        rcode = handled
    }
    expr {
    }
    pap {
    }
    linelog ended {
        filename = $folder/ended.log
        format = "%{User-Name} %{Acct-Session-Id} %{NAS-IP-Address}"
    }
    sql {
        dialect = $dialect
        driver = $driver
        $place
        acct_table1 = radacct
        acct_table2 = radacct
        postauth_table = radpostauth
        authcheck_table = radcheck
        authreply_table = radreply
        groupcheck_table = radgroupcheck
        groupreply_table = radgroupreply
        usergroup_table = radusergroup
        client_table = nas
        group_attribute = SQL-Group
        read_groups = yes
        pool {
            start = 0
            min = 0
            max = 4
            spare = 1
            uses = 0
            retry_delay = 0
            lifetime = 0
            idle_timeout = 60
        }
        \$INCLUDE $packaged/queries.conf
    }
}
policy {
    silent {
        update control {
            &Response-Packet-Type := Do-Not-Respond
        }
        handled
    }
}
server tests {
    listen {
        type = auth
        ipaddr = $address
        port = 1812
    }
    listen {
        type = coa
        ipaddr = $address
        port = 3799
    }
    authorize {
        sql {
            fail = 1
        }
        if (fail) {
            silent
        }
        pap
    }
    authenticate {
        Auth-Type PAP {
            pap
        }
    }
    recv-coa {
        ended
        if (&User-Name =~ /-gone\$/) {
            update reply {
                &Error-Cause := Session-Context-Not-Found
            }
            reject
        }
        if (&User-Name =~ /-kept\$/) {
            reject
        }
        ok
    }
}
CONF

: >ended.log
freeradius -f -l stderr -d "$folder" </dev/null >server.log 2>&1 &
server=$!
tries=0
until echo 'User-Name = nobody, User-Password = x' | radclient -r 1 -t 1 "$address" auth testing123 2>&1 | grep -q "Received Access-Reject"; do
    tries=$((tries + 1))
    [ $tries -lt $tries_max ] && kill -0 "$server" 2>/dev/null || {
        echo "FreeRADIUS does not start"
        tail -n 20 server.log
        freeradius -XC -d "$folder" 2>&1 | tail -n 5
        exit 1
    }
    sleep 0.01
done
echo "ready $folder"
cat >/dev/null

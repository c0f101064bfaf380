#!/usr/bin/env bash
# The published SDKs, unmodified, against the server; and the documented example with every spelling of it.
#
#     sdk.sh [--binary FILE]
#
# Each SDK has a virtual environment of its own (both packages call their module `verizon`), made once
# in $REVEILLE_CACHE (default: target/outside). Making them needs Python 3.11 or later and PyPI.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
case "${1-}" in
-h | --help)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
    exit 0
    ;;
esac

. "$here/environment.sh"

v2=$(environment sdk-v2 sdksio-verizon-apis-sdk==2.0.0)
v4=$(environment sdk-v4 vz-apimatic-v-4-sdk==0.0.1)

passed=0
failed=0
# proof NAME COMMAND…: runs one proof and adds up its last line.
proof() {
    echo "$1"
    shift
    output=$(timeout 300 "$@" 2>&1) || true
    printf '%s\n' "$output" | sed 's/^/    /'
    last=$(printf '%s\n' "$output" | tail -n 1)
    if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
    else
        failed=$((failed + 1))
    fi
}

proof "sdksio-verizon-apis-sdk 2.0.0" "$v2" "$here/sdk_v2.py" "$@"
proof "vz-apimatic-v-4-sdk 0.0.1" "$v4" "$here/sdk_v4.py" "$@"
proof "sdksio-verizon-apis-sdk 2.0.0, through a gateway" "$v2" "$here/sdk_v2.py" --gateway "$@"
proof "vz-apimatic-v-4-sdk 0.0.1, through a gateway" "$v4" "$here/sdk_v4.py" --gateway "$@"
proof "the documented example" python3 "$here/spellings.py" "$@"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

#!/usr/bin/env bash
# A database that speaks MongoDB's protocol, and a client of it, from PyPI: what `open5gs.py` and the adapter's tests run.
#
#     secantus.sh          makes the virtual environment where there is none, and prints its Python
#
# It lies in $REVEILLE_CACHE (default: target/outside), as those of the SDKs do. Nothing of MongoDB's own is in Debian.
set -eu

cache=${REVEILLE_CACHE:-$(cd "$(dirname "$0")/../.." && pwd)/target/outside}
made=$cache/secantus
if [ ! -e "$made/complete" ]; then
    mkdir -p "$cache"
    python3 -m venv --clear "$made" >&2 || python3 -m virtualenv --quiet --clear "$made" >&2
    "$made/bin/python" -m pip install --quiet --no-input --disable-pip-version-check secantusdb==0.7.0b3 pymongo==4.20.1 >&2
    touch "$made/complete"
fi
echo "$made/bin/python"

#!/usr/bin/env bash
# A database that speaks MongoDB's protocol, and a client of it, from PyPI: what `open5gs.py` and the adapter's tests run.
#
#     secantus.sh          makes the virtual environment where there is none, and prints its Python
#
# Nothing of MongoDB's own is in Debian.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/environment.sh"
environment secantus secantusdb==0.7.0b3 pymongo==4.20.1

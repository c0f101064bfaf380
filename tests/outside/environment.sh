# Python packages for proofs and tests, each in a virtual environment of its own, made once in $REVEILLE_CACHE (default:
# target/outside). Making one needs Python 3.11 or later and PyPI. To be sourced, with $here as this folder; or run:
#
#     bash environment.sh NAME PACKAGE…
cache=${REVEILLE_CACHE:-${here:=$(cd "$(dirname "$0")" && pwd)}/../../target/outside}

# environment NAME PACKAGE…: prints the Python that has the packages.
environment() {
    if [ ! -e "$cache/$1/complete" ]; then
        mkdir -p "$cache" || return
        python3 -m venv --clear "$cache/$1" >&2 || python3 -m virtualenv --quiet --clear "$cache/$1" >&2 || return
        "$cache/$1/bin/python" -m pip install --quiet --no-input --disable-pip-version-check "${@:2}" >&2 || return
        touch "$cache/$1/complete"
    fi
    echo "$cache/$1/bin/python"
}

[ $# -lt 2 ] || [ "${0##*/}" != environment.sh ] || environment "$@"

#!/usr/bin/env bash
# What each call on a borrowed GPU machine runs, from the root of the repository:
#
#     bash campaign/call.sh 1      # with campaign/wheels and data/cifar100-1.tar carried along
#     bash campaign/call.sh 2      # with data/cifar100-2.tar
#     bash campaign/call.sh 3      # with data/cifar100-3.tar; begins the unit
#     bash campaign/call.sh 4      # picks the unit up, until it ends
#
# MINUTES is what the unit may take, UNITS the campaign's file. What comes home is copied to OUT.
set -euo pipefail
export PYTHON=${PYTHON:-python3}
say() { echo "[$(date +%T)] $*"; }

say "call $1"
if [[ $1 == 1 && -d campaign/wheels ]]; then
    make --no-print-directory campaign-site
    say "wheels installed"
fi
if [[ $1 -le 3 ]]; then
    "$PYTHON" campaign/mosaics.py unpack data/cifar100 "data/cifar100-$1.tar"
    say "archive $1 unpacked"
fi
if [[ $1 -ge 3 ]]; then
    # A call ends before it is ended; the unit goes on meanwhile.
    timeout "${CALL_SECONDS:-570}" make --no-print-directory campaign || say "make campaign: status $?"
    find campaign/home -maxdepth 1 \( -name '*.tar.xz' -o -name unit.log \) -exec cp {} "${OUT:?}" \;
    say "call $1 ends"
fi

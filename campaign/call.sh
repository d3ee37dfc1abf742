#!/usr/bin/env bash
# What each call on a borrowed GPU machine runs, from the root of the repository:
#
#     bash campaign/call.sh 1      # with campaign/wheels and data/cifar100-1.tar carried along
#     bash campaign/call.sh 2      # with data/cifar100-2.tar
#     bash campaign/call.sh 3      # with data/cifar100-3.tar; begins the unit
#     bash campaign/call.sh 4      # picks the unit up, until it ends
#
# MINUTES is what the unit may take, UNITS the campaign's file, CALL_SECONDS what a call may. What comes
# home is in OUT, kept current while the unit works, since a call may be ended before its last line.
set -euo pipefail
PYTHON=${PYTHON:-python3}
export PYTHONPATH=$PWD/campaign/site${PYTHONPATH:+:$PYTHONPATH}
say() { echo "[$(date +%T)] $*"; }
bring_home() { find campaign/home -maxdepth 1 \( -name '*.tar.xz' -o -name unit.log \) -exec cp {} "${OUT:?}" \; ; }

say "call $1"
if [[ $1 == 1 ]]; then
    compgen -G 'campaign/wheels/*.whl' >/dev/null || [[ -d campaign/site ]] \
        || { echo "campaign/wheels is not here: make campaign-wheels, and carry it along."; exit 2; }
    if compgen -G 'campaign/wheels/*.whl' >/dev/null; then
        "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --upgrade \
            --disable-pip-version-check --target campaign/site campaign/wheels/*.whl
    fi
    "$PYTHON" -c 'import campaign.unit, samsweep.cli.measure, samsweep.cli.run, samsweep.training.cell
import hydra_plugins.samsweep_launcher, hydra_plugins.samsweep_sweeper'
    say "all that a unit imports is here"
fi
if [[ $1 -le 3 ]]; then
    "$PYTHON" -m campaign.mosaics unpack data/cifar100 "data/cifar100-$1.tar"
    say "archive $1 unpacked"
fi
if [[ $1 -ge 3 ]]; then
    mkdir -p campaign/home
    while sleep 5; do bring_home; done &
    copying=$!
    # The call ends before it is ended; the unit goes on meanwhile.
    timeout "$((${CALL_SECONDS:-570} - SECONDS))" "$PYTHON" -m campaign.unit \
        --units "${UNITS:-campaign/units.yaml}" --minutes "${MINUTES:-9}" || say "unit: status $?"
    kill "$copying"
    bring_home
    say "call $1 ends"
fi

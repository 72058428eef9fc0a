#!/usr/bin/env bash
# Install what the tests need, then run linter, type checker and tests. Further arguments go to pytest:
#   bash tests/run.sh                 everything that CI runs
#   bash tests/run.sh -m slow         the long checks
# VENV names the virtual environment (default: .venv in the checkout).
set -euo pipefail
cd "$(dirname "$0")/.."
venv="${VENV:-.venv}"

# Debian's DICOM validators, a PACS for the round trip, and a browser for the pages; without them their tests skip
# and say so.
tools="dciodvfy:dicom3tools dsrdump:dcmtk DicomSRValidator:pixelmed-apps Orthanc:orthanc unshare:util-linux
  ip:iproute2 chromium:chromium"
missing=""
for tool in $tools; do
  command -v "${tool%%:*}" >/dev/null || missing="$missing ${tool##*:}"
done
[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing="$missing orthanc-dicomweb"
# Debian starts a service as soon as it is installed, and the PACS would listen on all interfaces: not with this
# in place, and not at all on a machine that runs services.
no_start=/usr/sbin/policy-rc.d
if [ -n "$missing" ]; then
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] && [ ! -d /run/systemd/system ]; then
    if [ ! -e "$no_start" ]; then
      printf '#!/bin/sh\nexit 101\n' >"$no_start" && chmod +x "$no_start"
      trap 'rm -f "$no_start"' EXIT
    fi
    # shellcheck disable=SC2086
    apt-get update -qq &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
      echo "Not all of$missing could be installed; their tests will skip." >&2
    [ -z "$(trap -p EXIT)" ] || { rm -f "$no_start"; trap - EXIT; }
  else
    echo "Tests of these will skip (Debian packages, installed by root in a container):$missing" >&2
  fi
fi

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --editable '.[test]'

"$venv/bin/python" -m ruff format --check .
"$venv/bin/python" -m ruff check .
"$venv/bin/python" tests/typecheck.py
# Two test files at a time, each on one thread: the networks of the tests are too small for more.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# A process that dies is not replaced: xdist would run its tests again at the end, and wait for ever.
exec "$venv/bin/python" -m pytest -n 2 --dist loadfile --max-worker-restart 0 "$@"

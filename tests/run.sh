#!/usr/bin/env bash
# Install what the tests need, then run linter, type checker and tests. Further arguments go to pytest:
#   bash tests/run.sh                 everything that CI runs
#   bash tests/run.sh -m slow         the long checks
# VENV names the virtual environment (default: .venv in the checkout).
set -euo pipefail
cd "$(dirname "$0")/.."
venv="${VENV:-.venv}"

# Debian's DICOM validators; without them their tests skip and say so.
if ! command -v dciodvfy >/dev/null || ! command -v dsrdump >/dev/null; then
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends dicom3tools dcmtk \
        >/dev/null || echo "dicom3tools and dcmtk could not be installed; their tests will skip." >&2
  else
    echo "dicom3tools and dcmtk are not installed (apt-get install dicom3tools dcmtk); their tests will skip." >&2
  fi
fi

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --editable '.[test]'

"$venv/bin/python" -m ruff format --check .
"$venv/bin/python" -m ruff check .
"$venv/bin/python" tests/typecheck.py
# Two test files at a time, each on one thread: the networks of the tests are too small for more.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$venv/bin/python" -m pytest -n 2 --dist loadfile "$@"

#!/bin/sh
# Writes constraints.txt: one version of everything, for Python 3.10 to 3.12. Versions stay unless they must move;
# `tools/lock.sh --upgrade` moves them all. Needs uv (pip install uv).
set -eu
cd "$(dirname "$0")/.."
uv pip compile --universal --python-version 3.10 --no-annotate --custom-compile-command "tools/lock.sh" --quiet \
  --no-emit-package ideomotor --no-emit-package ideomotor-learn --no-emit-package ideomotor-sim \
  "$@" requirements-bench.txt --output-file constraints.txt

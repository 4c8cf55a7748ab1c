#!/usr/bin/env bash
# From nothing to pairs: a fresh environment, `pip install` of this checkout, `prefsmith run` (the demo), all in a
# scratch folder. PYTHON names the interpreter. Goals: install <= 60 s of wall with warm registry, run <= 60 CPU-s.
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

# Wall and CPU seconds of a command, into the file $1.
spent() {
  local into=$1
  shift
  TIMEFORMAT='%R %U %S'
  { time "$@" >"$into.log" 2>&1; } 2>"$into" || { cat "$into.log" >&2; exit 1; }
}

spent venv.time "$python" -m venv venv
spent install.time venv/bin/pip install --disable-pip-version-check "$checkout"
spent run.time venv/bin/prefsmith run
spent again.time venv/bin/prefsmith run

printf '\n| what | wall s | CPU-s | goal |\n|---|---|---|---|\n'
row() { awk -v what="$1" -v goal="$3" '{printf "| %s | %.1f | %.1f | %s |\n", what, $1, $2 + $3, goal}' "$2"; }
row 'python -m venv' venv.time ''
row 'pip install CHECKOUT' install.time '<= 60 s wall'
row 'prefsmith run (the demo)' run.time '<= 60 CPU-s'
row 'prefsmith run again (nothing to do)' again.time ''
printf '\nvenv: %s MB, %s packages; demo: %s pairs\n' "$(du -sm venv | cut -f1)" \
  "$(venv/bin/pip list --disable-pip-version-check 2>/dev/null | tail -n +3 | wc -l)" \
  "$(cat runs/demo/export/trl/*.jsonl | wc -l)"
venv/bin/python - "$checkout" <<'PY'
import sys
from pathlib import Path

sys.path.insert(0, str(Path(sys.argv[1]) / "bench"))
from measure import Yardstick, versions

yardstick = Yardstick(Path(), 100)
yardstick.take()
print(f"the usual script: {yardstick.taken_us[0]:,.0f} µs a request\n{versions()}")
PY

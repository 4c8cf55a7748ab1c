#!/usr/bin/env bash
# The tests that need a real partner: `tests/real.sh NAME [words for pytest]`; NAME is a file of tests/real/.
# Each NAME has an environment of its own (.venv-NAME; VENV names another), made once and used again.
# Results are written down in tests/real.md.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
name=${1:-}
if [ ! -f "$here/real/$name.sh" ]; then
  echo "usage: tests/real.sh NAME [words for pytest]; NAME: $(cd "$here/real" && echo *.sh | sed 's/\.sh//g')" >&2
  exit 2
fi
shift
venv=${VENV:-.venv-$name}

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
venv=$(cd "$venv" && pwd)
python=$venv/bin/python
[ -x "$venv/bin/uv" ] || "$venv/bin/pip" install -q uv
uv() { VIRTUAL_ENV=$venv "$venv/bin/uv" "$@"; }

# Brings the partner into $venv, unless it is there, and leaves in `tests` what pytest runs.
source "$here/real/$name.sh"

exec "$python" -m pytest -m "$name" "${tests[@]}" "$@"

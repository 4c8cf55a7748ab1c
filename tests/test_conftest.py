import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path


def test_a_marker_whose_package_is_missing_fails_its_test_and_never_skips_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    vllm: x\n")
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n@pytest.mark.vllm\ndef test_it(): pass\n\ndef test_other(): pass\n"
    )
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "test_it.py"]
    bare = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(words, cwd=tmp_path, env=bare, capture_output=True, text=True)
    if find_spec("vllm") is None:
        assert "marked 'vllm', but vllm cannot be imported: pip install -e '.[vllm]'" in done.stdout
        assert "1 passed, 1 error" in done.stdout
    else:
        assert "2 passed" in done.stdout

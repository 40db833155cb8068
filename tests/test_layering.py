"""Imports point down, and asking for help imports nothing heavy."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_imports_point_down():
    done = subprocess.run(["lint-imports"], cwd=ROOT, capture_output=True, text=True,
                          env={"PATH": str(Path(sys.executable).parent)})
    assert done.returncode == 0, done.stdout


def test_help_imports_neither_torch_nor_tvm_nor_ray_nor_optuna():
    code = ("import sys; from search.cli import main\n"
            "try: main(['--help'])\nexcept SystemExit: pass\n"
            "heavy = {'torch', 'tvm', 'ray', 'optuna', 'numpy', 'rich'} & set(sys.modules)\n"
            "sys.exit(f'imported: {heavy}' if heavy else 0)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_file_is_long():
    long = [p for p in ROOT.rglob("*.py") if ".venv" not in p.parts and len(p.read_text().splitlines()) > 400]
    assert not long

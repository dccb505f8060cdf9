"""The sdist and the wheel hold every file of the packages, and the wheel trains in a fresh environment."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("sentemb", "eval", "recipes")


def run(command: list[str], cwd: Path, **environment: str) -> str:
    """What a command prints; its failure is the test's."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=570)
    if "cannot be fetched from a package index" in done.stderr:
        pytest.skip("the sample is not in the cache, and no package index answers")
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist and the wheel, built without a network."""
    pytest.importorskip("build", reason="build is not installed (the extra test)")
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)], ROOT)
    return folder


def files_of_the_packages() -> set[str]:
    files = {path for top in TOPS for path in (ROOT / top).rglob("*") if path.is_file()}
    return {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


@pytest.mark.slow
def test_every_file_of_the_packages_is_in_the_sdist_and_the_wheel(built):
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    expected = files_of_the_packages()
    assert {".css", ".html", ".js", ".toml", ".yaml"} <= {Path(name).suffix for name in expected}
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert in_wheel == expected
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    assert expected <= in_sdist and {"pyproject.toml", "README.md", "LICENSE"} <= in_sdist


@pytest.mark.slow
def test_an_index_accepts_the_metadata(built):
    pytest.importorskip("twine", reason="twine is not installed (the extra test)")
    run([sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())], ROOT)


@pytest.mark.slow
def test_the_wheel_trains_the_sample_in_a_fresh_environment(built, tmp_path):
    """Away from the clone; torch and the like come from this environment's packages, by a .pth file."""
    environment = tmp_path / "environment"
    run([sys.executable, "-m", "venv", "--without-pip", str(environment)], tmp_path)
    python = environment / "bin" / "python"
    packages = Path(
        run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path).strip()
    )
    (wheel,) = built.glob("*.whl")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index", "--no-deps", str(wheel)]
    run([*install, "--disable-pip-version-check"], tmp_path)
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "others.pth").write_text("\n".join(others) + "\n")  # (the .pth files in these are not read)
    where = run([str(python), "-c", "import sentemb, eval, recipes; print(sentemb.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(packages)

    offline = {"HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true", "SENTEMB_DATA": ""}
    done = run([str(environment / "bin" / "sentemb"), "train", "--max-steps", "2"], tmp_path, **offline)
    folder = tmp_path / "runs" / "bookcorpus"
    assert {"model", "report.html", "scores.json", "config.json"} <= {path.name for path in folder.iterdir()}, done
    assert '"command": "sentemb train --max-steps 2"' in (folder / "config.json").read_text()

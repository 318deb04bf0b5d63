"""Compiled kernels: what they accept, and the object files that spare later processes numba.

The files are tested in a copy of the package, so that those of the installation stay whole.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

import oscillink_store
from oscillink_store.kernels.energy import anchor_forms
from oscillink_store.kernels.jit import kernel
from oscillink_store.kernels.laplacian import normalize
from oscillink_store.kernels.layout import LANES, aligned

PACKAGE = Path(oscillink_store.__file__).parent

PROGRAM = """
import json, os, sys
import numpy as np
import oscillink_store
from oscillink_store.kernels.laplacian import normalize
scale, coupling = np.empty(3), np.empty(4)
normalize(np.array([0, 1, 3, 4]), np.array([1, 0, 2, 1], np.int32),
          np.array([1.0, 1.0, 3.0, 3.0]), scale, coupling)
print(json.dumps({
    "package": os.path.dirname(oscillink_store.__file__),
    "scale": scale.tolist(), "coupling": coupling.tolist(),
    "numba": "numba" in sys.modules,
}))
"""
# degrees 1, 4 and 3
ANSWER = {"scale": [1.0, 0.5, 3**-0.5], "coupling": [0.5, 0.5, 1.5 * 3**-0.5, 1.5 * 3**-0.5]}


class Copy:
    """The kernels of the package in a folder of their own, with a home of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package = root / "site" / "oscillink_store"
        self.home = root / "home"
        self.home.mkdir()
        (self.package / "kernels").mkdir(parents=True)
        for source in (*PACKAGE.glob("*.py"), *(PACKAGE / "kernels").glob("*.py")):
            shutil.copy(source, self.package / source.relative_to(PACKAGE))

    @property
    def beside(self) -> Path:
        return self.package / "kernels" / "__pycache__"

    @property
    def user(self) -> Path:
        return self.home / ".cache" / "oscillink-store"

    def start(self, program: str = PROGRAM) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.root / "site"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(self.home),
        }
        return subprocess.Popen(
            [sys.executable, "-c", program], cwd=self.root, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def told(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        answer: dict[str, Any] = json.loads(out)
        assert Path(answer["package"]).samefile(self.package)
        np.testing.assert_allclose(answer["scale"], ANSWER["scale"], rtol=1e-15)
        np.testing.assert_allclose(answer["coupling"], ANSWER["coupling"], rtol=1e-15)
        return answer

    def compiles(self) -> bool:
        """Run a kernel in a new process; whether that had to import numba."""
        return bool(self.told(self.start())["numba"])

    def stored(self, folder: Path) -> Path:
        (path,) = folder.glob("laplacian.normalize.*")
        assert path.suffix == ".kernel"
        return path


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


@pytest.fixture
def open_copy() -> Iterator[Copy]:
    """A copy that any user of the machine may read; tmp_path belongs to one."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Copy(Path(folder))


def test_only_the_first_process_compiles(copy: Copy) -> None:
    assert copy.compiles()
    path = copy.stored(copy.beside)
    assert path.stat().st_mode & 0o444 == 0o444 & ~current_umask()
    assert not copy.compiles()
    assert not copy.user.exists()

    # another source, another key: the old file is of no use to anyone
    with (copy.package / "kernels" / "mmr.py").open("a") as file:
        file.write("# changed\n")
    assert copy.compiles()
    assert copy.stored(copy.beside) != path


def current_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_a_damaged_file_is_built_again(copy: Copy) -> None:
    assert copy.compiles()
    path = copy.stored(copy.beside)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (bytes(flipped), whole[:-100]):
        path.write_bytes(damaged)
        assert copy.compiles()
        assert copy.stored(copy.beside).read_bytes() != damaged
    assert not copy.compiles()


def test_processes_that_compile_at_once_leave_one_whole_file(copy: Copy) -> None:
    processes = [copy.start() for _ in range(2)]
    for process in processes:
        copy.told(process)
    assert copy.stored(copy.beside)
    assert not copy.compiles()


def test_without_a_folder_beside_the_sources_the_users_is_taken(copy: Copy) -> None:
    copy.beside.write_text("a file where the folder would be")
    assert copy.compiles()
    assert copy.stored(copy.user)
    assert not copy.compiles()

    # and without any folder every process compiles
    shutil.rmtree(copy.home)
    copy.home.write_text("no folder either")
    assert copy.compiles()
    assert copy.compiles()


# Read all that another user may not reach, then become that user; root may write anywhere.
COMPILED_BEFORE = """
import numba, numpy as np
from oscillink_store.kernels.laplacian import normalize
numba.njit(normalize.__wrapped__, error_model="numpy")(
    np.array([0, 0]), np.empty(0, np.int32), np.empty(0), np.empty(1), np.empty(0))
"""
AS_ANOTHER_USER = """
import json, os
from oscillink_store.kernels import jit, laplacian
jit._key()
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""


def test_a_read_only_package_keeps_its_kernels_in_the_users_cache(open_copy: Copy) -> None:
    open_copy.home.chmod(0o777)
    open_copy.beside.mkdir()
    open_copy.beside.chmod(0o555)
    try:
        open_copy.told(open_copy.start(COMPILED_BEFORE + AS_ANOTHER_USER + PROGRAM))
        assert list(open_copy.beside.iterdir()) == []
        path = open_copy.stored(open_copy.user)
        assert not open_copy.told(open_copy.start(AS_ANOTHER_USER + PROGRAM))["numba"]

        # kernels that came with the package serve a user who has none
        open_copy.beside.chmod(0o755)
        shutil.move(path, open_copy.beside)
        open_copy.beside.chmod(0o555)
        assert not open_copy.told(open_copy.start(AS_ANOTHER_USER + PROGRAM))["numba"]
        assert list(open_copy.user.iterdir()) == []
    finally:
        open_copy.beside.chmod(0o755)


HOMELESS = """
import pathlib
def none(*_):
    raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = none
"""


def test_a_user_without_a_home_compiles_beside_the_sources(copy: Copy) -> None:
    assert copy.told(copy.start(HOMELESS + PROGRAM))["numba"]
    assert copy.stored(copy.beside)


def graph() -> list[Any]:
    """Arguments of ``normalize`` for two anchors with one edge."""
    return [
        np.array([0, 1, 2]), np.array([1, 0], np.int32), np.array([4.0, 4.0]),
        np.empty(2), np.empty(2),
    ]  # fmt: skip


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (0, np.array([0, 1, 2], np.int32)),
        (1, np.array([1, 0])),
        (2, np.array([4.0, 4.0], np.float32)),
        (2, np.array([4.0, 4.0], ">f8")),
        (2, np.array([[4.0, 4.0]])),
        (2, np.array(4.0)),
        (2, np.array([4.0, 0.0, 4.0, 0.0])[::2]),
        (2, [4.0, 4.0]),
        (2, None),
        (3, read_only(np.zeros(2))),
        (3, np.float64(1.0)),
    ],
    ids=str,
)
def test_a_kernel_refuses_other_arrays(place: int, wrong: Any) -> None:
    arguments = graph()
    arguments[place] = wrong
    with pytest.raises(TypeError, match=f"argument {place}"):
        normalize(*arguments)


def test_a_kernel_takes_read_only_arrays_where_it_only_reads() -> None:
    indptr, indices, weights, scale, coupling = graph()
    normalize(read_only(indptr), read_only(indices), read_only(weights), scale, coupling)
    assert scale.tolist() == [0.5, 0.5]
    assert coupling.tolist() == [1.0, 1.0]


def test_a_kernel_counts_its_arguments() -> None:
    with pytest.raises(TypeError, match="takes 5 arguments"):
        normalize(*graph()[:4])


def test_a_kernel_does_not_cut_off_numbers() -> None:
    from oscillink_store.kernels.cg import TILE, block_cg

    def solve(iterations: Any) -> int:
        pair = np.ones((1, 1), np.float32)
        one = np.ones(1, np.float32)
        return block_cg(
            np.zeros(2, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), one, pair,
            1.0, one, one, 1e-6, iterations,
            aligned(1, 1), aligned(4, 1, TILE), aligned(7, TILE), np.empty(1),
        )  # fmt: skip

    assert solve(np.int64(3)) == 1
    for wrong in (2.5, "3", None):
        with pytest.raises(TypeError):
            solve(wrong)


def test_arrays_in_two_dimensions_are_read_row_by_row() -> None:
    Y = np.arange(12, dtype=np.float32).reshape(3, 4)
    arguments = [Y, np.zeros((3, 4), np.float32), np.zeros(4, np.float32), np.zeros(3)]
    squares, totals = np.empty((2, 3)), np.empty(4)
    anchor_forms(*arguments, squares, totals)
    assert totals[0] == (Y * Y).sum()
    with pytest.raises(TypeError, match="argument 0"):
        anchor_forms(np.asfortranarray(Y), *arguments[1:], squares, totals)


@pytest.mark.parametrize(
    "signature", ["nonsense", "void(float32[:])", "void(float32[::1]", "void(list)"]
)
def test_a_signature_that_cannot_be_compiled_is_refused_at_once(signature: str) -> None:
    with pytest.raises(TypeError):
        kernel(signature)(lambda: None)


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 64), (0, 4)])
def test_aligned_arrays_start_a_cache_line(shape: tuple[int, ...]) -> None:
    array = aligned(*shape)
    assert array.shape == shape
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.size == 0 or array.ctypes.data % (4 * LANES) == 0

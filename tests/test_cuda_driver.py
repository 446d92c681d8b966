"""What is said to the CUDA driver, to a stand-in for it that keeps memory on the host."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastein_cuda

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
    pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is a libcuda.so.1"),
    pytest.mark.skipif(fastein_cuda.is_available(), reason="there is a driver"),
]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    folder = tmp_path_factory.mktemp("driver")
    source = Path(__file__).with_name("stand_in_driver.c")
    library = folder / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-w", "-o", library, source], check=True)
    return folder


def said(folder, program):
    """Run a program on the stand-in; the lines that the driver printed."""
    start = "import numpy as np, fastein, fastein_cuda as fc\neinsum = fastein.einsum\n"
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder),
        "FASTEIN_CACHE_DIR": str(folder / "cache"),
        "PYTHONUNBUFFERED": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", start + program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_memory(stand_in):
    program = """
assert fc.is_available()
x = np.arange(12.0).reshape(3, 4).T
a = fc.asarray(x)
assert np.array_equal(fc.to_host(a), x)
assert a.device.machine.capability == (9, 0) and a.device.machine.processors == 132
del a
"""
    lines = said(stand_in, program)
    assert lines == ["allocate 96 on 0x1", "release on 0x1"]


def test_launches(stand_in):
    program = """
a = fc.asarray(np.ones((300, 300)))
b = einsum("ij,jk->ik", a, a)
c = einsum("ij,ij->ij", a, a)
assert type(c) is fc.DeviceArray and c.strides == (2400, 8)
"""
    lines = said(stand_in, program)
    launches = [line for line in lines if line.startswith("launch")]
    assert len(launches) == 2
    assert lines.count("load ELF") == 2
    # a contraction in more shared memory than a kernel has without asking, then a nest in none
    assert "256 1 1, shared" in launches[0]
    (attribute,) = [line for line in lines if line.startswith("attribute 8")]
    assert launches[0].split("shared ")[1].split()[0] == attribute.split()[2]
    assert "shared 0 on 0x1: 1 45000" in launches[1]


def test_the_callers_stream_and_scratch(stand_in):
    program = """
class Foreign:
    def __init__(self, array):
        self.__cuda_array_interface__ = dict(array.__cuda_array_interface__, stream=7)
a = Foreign(fc.asarray(np.ones((40, 40))))
r = einsum("ij,jk,kl->il", a, a, a)
assert r.__cuda_array_interface__["stream"] == 7
del r
"""
    lines = said(stand_in, program)
    assert [line.split(" on ")[1][:3] for line in lines if line.startswith("launch")] == ["0x7"] * 2
    # the result, the intermediate, which goes at once, and the result again
    assert [line for line in lines if line.endswith("0x7")] == [
        "allocate 12800 on 0x7",
        "allocate 12800 on 0x7",
        "release on 0x7",
        "release on 0x7",
    ]


def test_no_memory_left(stand_in):
    program = """
a = fc.asarray(np.ones(1 << 20))
try:
    einsum("i,j->ij", a, a)
except MemoryError as reason:
    print("caught:", reason)
"""
    (caught,) = [line for line in said(stand_in, program) if line.startswith("caught")]
    assert "Stand-in (device 0) has no 8796093022208 bytes left" in caught


def test_kernels_come_from_disk(stand_in):
    program = """
import sys
einsum("i,i->i", *[fc.asarray(np.ones(64))] * 2)
print("numba" if "numba.cuda" in sys.modules else "no numba")
"""
    said(stand_in, program)
    assert "no numba" in said(stand_in, program)

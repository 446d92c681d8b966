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


def said(folder, program, **settings):
    """Run a program on the stand-in; the lines that the driver printed."""
    start = "import numpy as np, fastein, fastein_cuda as fc\neinsum = fastein.einsum\n"
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder),
        "FASTEIN_CACHE_DIR": str(folder / "cache"),
        "PYTHONUNBUFFERED": "1",
        **settings,
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


def test_kernels_of_several_processes_are_told_apart(stand_in):
    """Numba numbers the names of kernels anew in each process."""
    operands = "*[fc.asarray(np.ones((300, 300)))] * 2"
    calls = [f"einsum('{equation}', {operands})\n" for equation in ("ij,kj->ik", "ji,jk->ik")]
    for call in calls:
        said(stand_in, call)
    lines = said(stand_in, "".join(calls))
    assert len([line for line in lines if line.startswith("load")]) == 2


def test_the_benchmark_times_by_events(stand_in, tmp_path):
    """On a device whose kernels do nothing: that all is asked of the driver as it should be."""
    program = f"""
from fastein_cuda import benchmark
assert benchmark.main(["--tiny", "--suites", "chain,batch", "--output", {str(tmp_path)!r}]) == 0
"""
    said(stand_in, program)
    (page,) = tmp_path.iterdir()
    assert page.name.endswith("-gpu-stand-in.rst")
    text = page.read_text()
    assert "differs from the CPU" in text
    assert "Error" not in text
    assert "not be measured" not in text


CUBE = """
a = fc.asarray(np.ones((300, 300)))
einsum("ij,jk->ik", a, a)
"""


def test_a_driver_that_is_too_old_for_a_cubin_gets_ptx(stand_in):
    lines = said(stand_in, CUBE, STAND_IN_REFUSES="ELF")
    assert [line for line in lines if line in ("refuse", "load PTX")] == ["refuse", "load PTX"]
    assert any(line.startswith("launch") for line in lines)


def test_a_driver_that_is_too_old_for_anything(stand_in):
    program = """
try:
    einsum("ij->ji", fc.asarray(np.ones((30, 30))), out=fc.asarray(np.ones((30, 30))))
except fc.CudaUnavailableError as reason:
    print("caught:", reason)
"""
    lines = said(stand_in, program, STAND_IN_REFUSES="all")
    (caught,) = [line for line in lines if line.startswith("caught")]
    assert "the driver of CUDA 13.0 cannot load kernels made by numba-cuda" in caught


def test_a_device_without_pools(stand_in):
    lines = said(stand_in, CUBE, STAND_IN_WITHOUT_POOLS="1")
    assert lines.count("allocate 720000 plainly") == 2
    assert lines.count("release plainly") == 2


def test_streams_wait_for_each_other(stand_in):
    program = """
a, b = (fc.asarray(np.ones(3)) for _ in range(2))
class Foreign:
    def __init__(self, array, stream):
        self.__cuda_array_interface__ = dict(array.__cuda_array_interface__, stream=stream)
r = einsum("i,i->i", Foreign(a, 7), Foreign(b, 9))
r.__dlpack__(stream=5)
"""
    lines = [line for line in said(stand_in, program) if "record" in line or "waits" in line]
    assert lines == [
        "record on 0x9", "0x7 waits", "record on 0x7", "0x9 waits", "record on 0x7", "0x5 waits",
    ]  # fmt: skip


def test_a_warm_call_makes_nothing_anew(stand_in):
    """No kernel is looked up, no argument packed again; scratch comes from the pool each time."""
    program = """
from fastein_cuda import codegen, compiler, driver, launch, schedule
a = fc.asarray(np.ones((40, 40)))
out = fc.asarray(np.ones((40, 40)))
einsum("ij,jk,kl->il", a, a, a, out=out)
print("warm")
for module, names in (
    (compiler, ("cubin", "build")),
    (codegen, ("render", "parameters")),
    (launch, ("launch_of", "step_of", "schedule")),
    (driver.ctypes, ("addressof",)),
    (driver.CudaDevice, ("prepare", "_function", "_attribute")),
):
    for name in names:
        setattr(module, name, None)
for _ in range(3):
    assert einsum("ij,jk,kl->il", a, a, a, out=out) is out
"""
    lines = said(stand_in, program)
    warm = lines[lines.index("warm") + 1 :]
    one = ["allocate", "launch", "launch", "release"]
    assert [line.split()[0] for line in warm][: 3 * len(one)] == one * 3
    launches = [line for line in warm if line.startswith("launch")]
    assert launches[::2] == launches[:1] * 3


def test_a_warm_call_without_scratch_allocates_nothing(stand_in):
    program = """
a = fc.asarray(np.ones((40, 40)))
out = fc.asarray(np.ones((40, 40)))
einsum("ij,jk->ik", a, a, out=out)
print("warm")
einsum("ij,jk->ik", a, a, out=out)
"""
    lines = said(stand_in, program)
    warm = [line.split()[0] for line in lines[lines.index("warm") + 1 :]]
    assert warm[0] == "launch"
    assert warm[1:] in ([], ["release"] * 2)  # the arrays, if the interpreter frees them at its end


CAPTURE = """
from cuda.bindings import driver
from fastein_cuda.driver import call
class Foreign:
    def __init__(self, array):
        self.array = array
        self.__cuda_array_interface__ = dict(array.__cuda_array_interface__, stream=7)
a, b, out = (Foreign(fc.asarray(np.ones((40, 40)))) for _ in range(3))
operands = (a, b, fc.asarray(np.ones((40, 40))))  # the last is computed on another stream
def run():
    einsum("ij,jk,kl->il", *operands, out=out)
def captured():
    call("cuStreamBeginCapture", 7, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL)
    run()
    call("cuStreamEndCapture", 7)
"""


def test_a_warm_call_can_be_captured(stand_in):
    """All that it asks of the driver is in a stream's order, and so becomes part of the graph."""
    lines = said(stand_in, CAPTURE + "run()\nprint('warm')\ncaptured()\ncaptured()")
    warm = lines[lines.index("warm") + 1 :]
    one = ["record", "0x7", "allocate", "launch", "launch", "release", "record", "0x1", "a"]
    assert [line.split()[0] for line in warm][: 2 * len(one)] == one * 2
    assert "not in a graph" not in lines


def test_a_cold_call_cannot(stand_in):
    program = (
        CAPTURE
        + """
try:
    captured()
except RuntimeError as reason:
    print("caught:", reason)
"""
    )
    lines = said(stand_in, program)
    assert "caught: cuModuleLoadData: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" in lines


def test_a_device_that_is_too_old(stand_in):
    program = """
assert not fc.is_available()
try:
    fc.asarray(np.ones(3))
except fc.CudaUnavailableError as reason:
    print("caught:", reason)
"""
    (caught,) = said(stand_in, program, STAND_IN_IS_OLD="1")
    assert "has compute capability 7.0: fastein needs 8.0 or later" in caught

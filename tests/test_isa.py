"""Which instruction set kernels are made for."""

import subprocess
import sys

import pytest

from fastein.cpu.isa import AVX2, AVX512, AVX512_VBMI, AVX512_VNNI, NEON, PLAIN, host

AVX2_FEATURES = "+sse2,+avx,+avx2,+fma,+f16c"
AVX512_FEATURES = AVX2_FEATURES + ",+avx512f,+avx512dq,+avx512bw,+avx512vl"


@pytest.fixture
def found(monkeypatch):
    """Return what `host` returns in an environment."""
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "FASTEIN_ISA"):
        monkeypatch.delenv(name, raising=False)

    def ask(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return host.__wrapped__()

    return ask


@pytest.mark.parametrize(
    ("features", "isa"),
    [
        (AVX512_FEATURES, AVX512),
        (AVX512_FEATURES + ",+avx512vnni", AVX512_VNNI),
        (AVX512_FEATURES + ",+avx512vnni,+avx512vbmi", AVX512_VBMI),
        (AVX512_FEATURES.replace("+avx512bw", "-avx512bw"), AVX2),
        (AVX512_FEATURES.replace(",+avx512vl", ""), AVX2),
        (AVX2_FEATURES, AVX2),
        (AVX2_FEATURES.replace("+fma", "-fma"), PLAIN),
        (AVX2_FEATURES.replace("+f16c", "-f16c"), PLAIN),
        ("+neon,+fp-armv8", NEON),
        ("", PLAIN),
    ],
)
def test_features_decide(found, features, isa):
    assert found(NUMBA_CPU_FEATURES=features) == isa


def test_the_generic_processor_has_no_features(found):
    assert found(NUMBA_CPU_NAME="generic") == PLAIN
    assert found(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=AVX2_FEATURES) == AVX2


def test_this_processor(found):
    assert found() in (AVX512_VBMI, AVX512_VNNI, AVX512, AVX2, NEON, PLAIN)
    assert host() is host()


@pytest.mark.parametrize(
    ("wanted", "isa"), [("avx2", AVX2), (" PLAIN ", PLAIN), ("avx512", AVX512), ("mmx", AVX512)]
)
def test_a_narrower_one_can_be_chosen(found, wanted, isa):
    assert found(NUMBA_CPU_FEATURES=AVX512_FEATURES, FASTEIN_ISA=wanted) == isa


def test_a_wider_one_cannot_be_chosen(found):
    assert found(NUMBA_CPU_FEATURES=AVX2_FEATURES, FASTEIN_ISA="avx512") == AVX2


def test_importing_it_loads_no_compiler():
    code = "import sys, fastein.cpu.isa, fastein.cpu.packing; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"numba", "llvmlite"} & set(loaded.stdout.split())

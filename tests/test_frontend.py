"""Numba's contexts in a worker: the same kernels as elsewhere, sooner."""

from __future__ import annotations

import pytest
from helpers import in_a_process

KERNELS = """
    import os, fastein
    fastein.config(cache_dir={folder!r}, jit="always")
    if {lean}:
        from fastein.cpu.frontend import compile_kernels_only
        compile_kernels_only()
    for dtype in ("f8", "f4", "e", "D", "i1", "?"):
        a = np.ones((300, 400), dtype)
        cube = np.ones((2000, 3, 3), dtype)
        einsum("ij->j", a)
        einsum("ij,ji->i", a, a.T.copy())
        einsum("bij,bjk->bik", cube, cube)
        einsum("ij->ji", a, out=np.empty((400, 300), dtype))
        einsum("ij,jk->ki", a, a.T.copy())
    long = np.ones(3_000_000)
    einsum("i,i->", long, long)
    print(sorted(os.listdir({folder!r} + "/kernels")))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two stores: of a process with Numba's contexts, and of one with those of a worker."""
    whole, lean = (tmp_path_factory.mktemp(name) for name in ("whole", "lean"))
    for folder in (whole, lean):
        in_a_process(KERNELS.format(folder=str(folder), lean=folder is lean), timeout=600)
    return whole / "kernels", lean / "kernels"


def test_kernels_are_the_same_to_the_byte(folders):
    whole, lean = (
        {file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders
    )
    assert len(whole) > 30
    assert whole == lean


def test_a_numba_that_keeps_its_contexts_elsewhere_goes_on_with_its_own(monkeypatch):
    from fastein.cpu import frontend

    class Elsewhere:
        refreshed = 0

        @property
        def target_context(self):
            return self

        def refresh(self):
            self.refreshed += 1

    target = Elsewhere()
    monkeypatch.setattr(frontend, "cpu_target", target)
    frontend.compile_kernels_only()
    assert vars(target) == {"refreshed": 1}

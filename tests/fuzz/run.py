"""Fuzz with atheris: ``python tests/fuzz/run.py TARGET [CORPUS ...] [libFuzzer's options]``.

With a file in the place of a corpus that input alone is run, as a crash is looked into. ``make
fuzz`` builds the extension modules so that their branches count, too, and runs this on them.
"""

import ctypes
import os
import pathlib
import sys
import tempfile


def main() -> None:
    import atheris  # here, for the tests' collection imports this module

    name, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["FASTEIN_CACHE_DIR"] = cache
        with atheris.instrument_imports(include=["fastein"]):
            import fastein.cpu.target
            import fastein.planner  # noqa: F401
            from fastein.testing.guided import TARGETS
        again = f"{sys.executable} -P {__file__} {name}"  # how libFuzzer starts more of it
        atheris.Setup([again, *rest], TARGETS[name])
        count_branches(pathlib.Path(atheris.__file__).parent)
        atheris.Fuzz()


def count_branches(folder: pathlib.Path) -> None:
    """Have the libFuzzer in atheris's folder read the counters of coverage.c, if that is loaded."""
    program = ctypes.CDLL(None)
    if not hasattr(program, "fastein_counters"):
        print("the extension modules' coverage is not counted", file=sys.stderr)
        return
    count = ctypes.c_int.in_dll(program, "fastein_count").value
    (library,) = folder.glob("core_with_libfuzzer.*")
    fuzzer = ctypes.CDLL(str(library))
    for table, size, tell in (
        ("fastein_counters", count, fuzzer.__sanitizer_cov_8bit_counters_init),
        ("fastein_places", 16 * count, fuzzer.__sanitizer_cov_pcs_init),
    ):
        start = ctypes.addressof(ctypes.c_char.in_dll(program, table))
        tell(ctypes.c_void_p(start), ctypes.c_void_p(start + size))


if __name__ == "__main__":
    main()

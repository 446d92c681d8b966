"""The extension modules; everything else about the build stands in pyproject.toml."""

import os
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# NumPy's C API is used by all modules but the parser; the headers of NumPy 2 give binaries that
# run on every NumPy from 2.0 on.
NUMPY_MACROS = [
    ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"),
    ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
]
ARITHMETIC_MODULES = {
    f"fastein.cpu.{name}"
    for name in ("_inner_loops", "_sum_pairs", "_map_pairs", "_triple_pairs", "_narrow")
}
# CYTHON_CCOMPLEX=0: C99 complex products check for NaN and call a library routine; the naive
# product is both what NumPy computes and what the compiler can vectorise.
EXTRA_MACROS = {name: [("CYTHON_CCOMPLEX", "0")] for name in ARITHMETIC_MODULES}
WITHOUT_NUMPY = {"fastein._parser"}

# Sums may be regrouped, so that reductions vectorise; NaN and infinity keep their meaning, which
# is why this is not -ffast-math. Products of three would be regrouped as well.
ARITHMETIC_FLAGS = {
    "unix": ["-O3", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"],
    "msvc": ["/O2"],
}
REGROUPING_FLAGS = {"unix": ["-fassociative-math"], "msvc": []}
KEEP_ORDER = {"fastein.cpu._triple_pairs"}
for flags in (ARITHMETIC_FLAGS, REGROUPING_FLAGS):
    flags["mingw32"] = flags["unix"]

JOBS = os.cpu_count() or 1


def extension(path: Path) -> Extension:
    name = ".".join(path.with_suffix("").parts)
    uses_numpy = name not in WITHOUT_NUMPY
    return Extension(
        name,
        [path.as_posix()],
        include_dirs=[np.get_include()] if uses_numpy else [],
        define_macros=[*(NUMPY_MACROS if uses_numpy else []), *EXTRA_MACROS.get(name, [])],
        depends=["setup.py"],
    )


class BuildExt(build_ext):
    """Adds the flags that depend on the compiler, which is known only once the build starts."""

    def build_extensions(self) -> None:
        compiler = self.compiler.compiler_type
        for ext in self.extensions:
            if ext.name in ARITHMETIC_MODULES:
                ext.extra_compile_args += ARITHMETIC_FLAGS.get(compiler, [])
                if ext.name not in KEEP_ORDER:
                    ext.extra_compile_args += REGROUPING_FLAGS.get(compiler, [])
        super().build_extensions()


extensions = [extension(path) for path in sorted(Path("fastein").rglob("*.pyx"))]

setup(
    ext_modules=cythonize(
        extensions,
        build_dir="build/cython",
        nthreads=min(JOBS, len(extensions)),
        compiler_directives={"auto_pickle": False},
    ),
    cmdclass={"build_ext": BuildExt},
    options={"build_ext": {"parallel": JOBS}},
)

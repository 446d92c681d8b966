"""What a new process pays beside NumPy: the first call of an equation, and a whole short script.

In the folder `asv_bench`, ``python -m benchmarks.first_calls`` measures two promises, each in
processes of their own:

- with an empty store the first call of any equation of the corpus, at its source's size, takes at
  most 1.5 times what NumPy's first call takes, and 5 ms;
- with a warm store a script of one contraction takes at most 1.3 times what the same script takes
  with NumPy, and imports no compiler.
"""

import argparse
import compileall
import os
import subprocess
import sys
import tempfile
from time import perf_counter

import fastein
from fastein.testing.corpus import CORPUS

FACTOR, EXTRA = 1.5, 5e-3
SCRIPT_FACTOR = 1.3

FIRST_CALL = """
import sys, time
import numpy as np
{imports}
from fastein.testing.corpus import CORPUS, operands
case = CORPUS[int(sys.argv[1])]
arrays = operands(case, small=False)
equation = {equation}
start = time.perf_counter()
einsum(equation, *arrays)
print(time.perf_counter() - start)
"""
OURS = FIRST_CALL.format(imports="from fastein import einsum", equation="case.equation")
THEIRS = FIRST_CALL.format(
    imports="from numpy import einsum", equation="case.numpy_equation or case.equation"
)

SCRIPT = """
import sys
import numpy as np
{imports}
a, b = np.ones((512, 512)), np.ones((512, 512))
np_or_fastein.einsum("ij,jk->ik", a, b{optimize})
assert not {{"numba", "llvmlite"}} & set(sys.modules)
"""
OUR_SCRIPT = SCRIPT.format(imports="import fastein as np_or_fastein", optimize="")
THEIR_SCRIPT = SCRIPT.format(imports="np_or_fastein = np", optimize=", optimize=True")


def run(code, *arguments, folder):
    """Run code in a process of its own; return its seconds, and what it printed."""
    environment = {**os.environ, "FASTEIN_CACHE_DIR": folder}
    start = perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return perf_counter() - start, done.stdout


def first_calls(number, repeat):
    """Seconds of NumPy's first call and of fastein's: the least of some, in turns."""
    best = {}
    for _ in range(repeat):
        for code in (THEIRS, OURS):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty:
                seconds = float(run(code, number, folder=empty)[1])
            best[code] = min(best.get(code, seconds), seconds)
    return best[THEIRS], best[OURS]


def report_first_calls(repeat, part, parts):
    failed = 0
    rows = []
    for number, case in enumerate(CORPUS):
        if case.reference != "numpy" or number % parts != part:
            continue
        theirs, ours = first_calls(number, repeat)
        share = ours / (FACTOR * theirs + EXTRA)
        failed += share > 1
        rows.append((share, case.equation, case.dtype, theirs, ours))
    for share, equation, dtype, theirs, ours in sorted(rows, reverse=True)[:12]:
        print(
            f"{share:5.2f} of the bound: {equation} {dtype}: "
            f"{theirs * 1e3:.2f} ms, fastein {ours * 1e3:.2f} ms"
        )
    print(f"{len(rows)} first calls, {failed} beyond {FACTOR} x NumPy's + {EXTRA * 1e3:.0f} ms")


def report_scripts(repeat):
    times = {OUR_SCRIPT: [], THEIR_SCRIPT: []}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        warm = {**os.environ, "FASTEIN_CACHE_DIR": folder}
        warmup = [sys.executable, "-m", "fastein", "warmup", "--dtypes", "float64"]
        subprocess.run(warmup, env=warm, check=True, capture_output=True)
        for _ in range(repeat):
            for code, seconds in times.items():
                seconds.append(run(code, folder=folder)[0])
    ours, theirs = [min(times[code]) for code in (OUR_SCRIPT, THEIR_SCRIPT)]
    middle = [sorted(times[code])[repeat // 2] for code in (OUR_SCRIPT, THEIR_SCRIPT)]
    print(
        f"a script of one contraction: NumPy {theirs * 1e3:.0f} ms, fastein {ours * 1e3:.0f} ms: "
        f"{ours / theirs:.2f} (medians {middle[0] / middle[1]:.2f}; bound {SCRIPT_FACTOR})"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=3, help="processes of each kind")
    parser.add_argument("--part", default="0/1", help="2/3: the third third of the equations")
    options = parser.parse_args()
    compileall.compile_dir(os.path.dirname(fastein.__file__), quiet=1)  # as an installation is
    report_scripts(7 * options.repeat)
    report_first_calls(options.repeat, *map(int, options.part.split("/")))

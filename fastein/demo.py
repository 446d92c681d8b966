"""One attention layer of a real model, equation by equation, beside NumPy.

The layer is that of Gemma 2B as the pi0 models use it: eight query heads that share one head of
keys and values. Its five contractions are run by ``fastein.einsum`` and by ``numpy.einsum`` on the
same arrays; rotary embedding, masks and normalisation are left out, as no einsum is in them.

``BSD,3KDH->3BSKH`` is the projection as the model's source writes it, the digit being a label of
size 3. Its planes 1 and 2 are the keys and values. Plane 0 has the queries of a layer with as many
query heads as key heads; in this layer each key head serves G of them, so its queries come from
``BTD,NDH->BTNH`` instead, with N = K*G, and plane 0 goes unused.

Run it with ``python -m fastein.demo``; the plot needs matplotlib (``pip install 'fastein[demo]'``).
"""

import argparse
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastein
from fastein.testing.examples import softmax

Array = npt.NDArray[Any]
Einsum = Callable[..., Array]

# The rivals, as they are called in the table and the plot.
FASTEIN = "fastein"
NUMPY = "np.einsum(optimize=True)"
NUMPY_PLAIN = "np.einsum()"

ROUNDS = 5
SECONDS_PER_EQUATION = 4.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of one layer, by the labels of its equations."""

    B: int  # batch
    T: int  # positions that ask; as many positions S are attended to
    D: int  # width of the model
    K: int  # heads of keys and values
    G: int  # query heads for each of them
    H: int  # width of a head


SIZES = {
    "small": Sizes(B=2, T=32, D=128, K=1, G=8, H=16),
    "full": Sizes(B=2, T=512, D=2048, K=1, G=8, H=256),
}


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one equation cost, in seconds, and how far the two answers are apart."""

    equation: str
    shapes: tuple[tuple[int, ...], ...]  # the operands' shapes, then the result's
    first: float  # fastein's first call, with whatever planning and compiling it does
    seconds: dict[str, float]  # by rival: best of the rounds, but plain np.einsum has only one
    difference: float  # largest absolute difference between fastein and np.einsum()
    relative: float  # the same, over the largest absolute value of that answer

    @property
    def ratio(self) -> float:
        """The time over NumPy's: below 1, fastein is faster."""
        return self.seconds[FASTEIN] / self.seconds[NUMPY]


def numpy_spelling(equation: str) -> str:
    """Rename the labels that NumPy does not accept.

    >>> numpy_spelling("BSD,3KDH->3BSKH")
    'BSD,aKDH->aBSKH'
    """
    digits = sorted({c for c in equation if c.isdigit()})
    free = (c for c in "abcdefghijklmnopqrstuvwxyz" if c not in equation)
    return equation.translate({ord(digit): letter for digit, letter in zip(digits, free)})  # noqa: B905


def labelled(term: str, shape: Sequence[int]) -> str:
    """Write a shape with its labels.

    >>> labelled("3BS", (3, 2, 512))
    '3=3 B=2 S=512'
    """
    return " ".join(f"{label}={size}" for label, size in zip(term, shape, strict=True))


def timed(function: Einsum, *args: Any, **kwargs: Any) -> tuple[float, Array]:
    """Seconds of one call, and its result."""
    start = time.perf_counter()
    result = function(*args, **kwargs)
    return time.perf_counter() - start, result


def compare(equation: str, *operands: Array) -> tuple[Measurement, Array]:
    """Run one equation with fastein and NumPy, interleaved, and keep each one's best time.

    np.einsum without optimize walks one scalar loop nest; it is run once, for scale, and
    its answer, which no BLAS had a part in, is the one that fastein's is compared with.
    """
    spelt = numpy_spelling(equation)
    rivals: dict[str, Callable[[], tuple[float, Array]]] = {
        FASTEIN: lambda: timed(fastein.einsum, equation, *operands),
        NUMPY: lambda: timed(np.einsum, spelt, *operands, optimize=True),
    }
    first, result = rivals[FASTEIN]()
    seconds = dict.fromkeys(rivals, math.inf)
    start = time.perf_counter()
    for done in range(ROUNDS):
        if done and time.perf_counter() - start > SECONDS_PER_EQUATION:
            break
        for name, run in rivals.items():
            seconds[name] = min(seconds[name], run()[0])
    seconds[NUMPY_PLAIN], expected = timed(np.einsum, spelt, *operands)
    difference = float(np.max(np.abs(result - expected)))
    measurement = Measurement(
        equation=equation,
        shapes=(*(operand.shape for operand in operands), result.shape),
        first=first,
        seconds=seconds,
        difference=difference,
        relative=difference / float(np.max(np.abs(expected))),
    )
    return measurement, result


def attention_layer(size: Sizes) -> Iterator[Measurement]:
    """Run the layer, and yield a measurement for each of its equations as it comes."""
    rng = np.random.default_rng(0)
    n = size.K * size.G

    def weights(*shape: int, fan_in: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32) / np.float32(math.sqrt(fan_in))

    x = rng.standard_normal((size.B, size.T, size.D), dtype=np.float32)
    w_qkv = weights(3, size.K, size.D, size.H, fan_in=size.D)
    w_query = weights(n, size.D, size.H, fan_in=size.D)
    w_out = weights(n, size.H, size.D, fan_in=n * size.H)

    measured, qkv = compare("BSD,3KDH->3BSKH", x, w_qkv)
    yield measured
    keys, values = qkv[1], qkv[2]

    measured, queries = compare("BTD,NDH->BTNH", x, w_query)
    yield measured
    grouped = queries.reshape(size.B, size.T, size.K, size.G, size.H)

    measured, logits = compare("BTKGH,BSKH->BKGTS", grouped, keys)
    yield measured
    attention = softmax(logits * np.float32(size.H**-0.5))

    measured, mixed = compare("BKGTS,BSKH->BTKGH", attention, values)
    yield measured
    heads = mixed.reshape(size.B, size.T, n, size.H)

    measured, _ = compare("BTNH,NHD->BTD", heads, w_out)
    yield measured


def milliseconds(seconds: float) -> str:
    """Three digits of milliseconds.

    >>> milliseconds(0.0123456)
    '12.3 ms'
    """
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds * 1e3:.0f} ms"


def report(measured: Measurement) -> str:
    """One equation's measurement, as the demo prints it."""
    inputs, output = measured.equation.split("->")
    names = [*inputs.split(","), output]
    shapes = [
        f"  {'->' if place == len(names) - 1 else '  '} {term:6} {labelled(term, shape)}"
        for place, (term, shape) in enumerate(zip(names, measured.shapes, strict=True))
    ]
    times = [f"     {name:26} {milliseconds(best):>10}" for name, best in measured.seconds.items()]
    times[0] += f"   (first call {milliseconds(measured.first)})"
    ratio = f"     {FASTEIN} / {NUMPY}: {measured.ratio:.2f}"
    apart = f"{measured.difference:.2g} ({measured.relative:.1g} of the largest value)"
    return "\n".join(
        [
            measured.equation,
            *shapes,
            *times,
            ratio,
            f"     largest difference from {NUMPY_PLAIN} {apart}",
        ]
    )


def total(measurements: Sequence[Measurement]) -> str:
    """Sum up the layer's einsums in one line."""
    ours, theirs = (sum(m.seconds[name] for m in measurements) for name in (FASTEIN, NUMPY))
    return (
        f"All {len(measurements)} equations: {FASTEIN} {milliseconds(ours)}, "
        f"{NUMPY} {milliseconds(theirs)}, ratio {ours / theirs:.2f}"
    )


def plot(measurements: Sequence[Measurement], title: str, path: Path) -> None:
    """Draw the times as grouped bars into a PNG file."""
    from matplotlib.figure import Figure  # no pyplot: neither display nor global state

    rivals = (FASTEIN, NUMPY, NUMPY_PLAIN)
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(rivals)
    for place, name in enumerate(rivals):
        left = [i + (place - 1) * width for i in range(len(measurements))]
        bars = axes.bar(left, [m.seconds[name] * 1e3 for m in measurements], width, label=name)
        axes.bar_label(bars, fmt="%.3g", fontsize=8)
    axes.set_xticks(
        range(len(measurements)), [m.equation.replace("->", "\n→ ") for m in measurements]
    )
    axes.set_ylabel("milliseconds")
    axes.set_title(title)
    axes.legend()
    figure.savefig(path, format="png", dpi=120)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    description = "One attention layer of a real model, equation by equation, beside NumPy."
    result = argparse.ArgumentParser(prog="python -m fastein.demo", description=description)
    result.add_argument(
        "--size", choices=tuple(SIZES), default="full", help="sizes of the layer (default: full)"
    )
    result.add_argument(
        "--output",
        type=Path,
        default=Path("fastein-demo.png"),
        help="where to write the plot, a PNG file (default: fastein-demo.png)",
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status is 1 when there is no matplotlib to draw the plot with."""
    options = parser().parse_args(arguments)
    size = SIZES[options.size]
    threads = fastein.get_num_threads()
    print(f"fastein {fastein.__version__}, NumPy {np.__version__}, {threads} threads")
    title = f"One attention layer of Gemma 2B, {options.size} size, float32"
    print(f"{title}: {size}\n")
    measurements = []
    for measured in attention_layer(size):
        print(report(measured), end="\n\n", flush=True)
        measurements.append(measured)
    print(total(measurements))
    if importlib.util.find_spec("matplotlib") is None:
        print("No plot: it needs matplotlib (pip install 'fastein[demo]').", file=sys.stderr)
        return 1
    plot(measurements, title, options.output)
    print(f"The times are drawn in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

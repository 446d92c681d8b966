"""The kept inputs: a file for each target, an input on each line, in Python's spelling.

``python tests/fuzz/corpus.py unpack parser FOLDER`` makes the files of them that libFuzzer wants;
``pack`` makes the lines of such files.
"""

import ast
import hashlib
import sys
from pathlib import Path

KEPT = Path(__file__).parent


def inputs(target: str) -> list[bytes]:
    """Return the kept inputs of a target."""
    return [ast.literal_eval(line) for line in _file(target).read_text().splitlines()]


def unpack(target: str, folder: Path) -> None:
    """Write each input into a file of its own, named as libFuzzer names it."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs(target):
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def pack(target: str, folder: Path) -> None:
    """Keep the inputs in a folder, and nothing else."""
    found = sorted({path.read_bytes() for path in folder.iterdir()}, key=lambda x: (len(x), x))
    _file(target).write_text("".join(f"{data!r}\n" for data in found))


def _file(target: str) -> Path:
    return KEPT / f"{target}.txt"


if __name__ == "__main__":
    how, name, where = sys.argv[1:]
    {"pack": pack, "unpack": unpack}[how](name, Path(where))

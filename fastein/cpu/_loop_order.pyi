from .._nest import LoopNest
from .machine import Machine

def loop_order(
    nest: LoopNest, machine: Machine, streams: bool = False
) -> tuple[tuple[int, ...], float]: ...

LARGE_FROM: int  # bytes from which a result is aligned to 64 bytes
POOLED_FROM: int  # bytes from which its memory is recycled
handler: object  # the capsule of NumPy's handler (NEP 49)

def idle() -> tuple[int, int]: ...

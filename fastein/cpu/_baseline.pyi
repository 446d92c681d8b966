# Nothing of the baseline nest is callable from Python; `_runtime` gets at it in C.

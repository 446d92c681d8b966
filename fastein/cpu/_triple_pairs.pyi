# Nothing of the loops is callable from Python; `_runtime` gets at them in C.

# Nothing of the threads is callable from Python; `_runtime` gets at it in C.

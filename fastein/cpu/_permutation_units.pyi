# Nothing here is callable from Python; `_permutation` gets at it in C.

# Nothing here is callable from Python; `_contraction` gets at it in C.

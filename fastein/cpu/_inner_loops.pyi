# Nothing of the inner loops is callable from Python; `_baseline` gets at them in C.

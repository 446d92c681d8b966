# Nothing here is callable from Python; `_tickets` gets at it in C.

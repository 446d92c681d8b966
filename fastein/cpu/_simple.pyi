from ..equation import Equation

class Recipe:
    def __init__(self, equation: Equation) -> None: ...

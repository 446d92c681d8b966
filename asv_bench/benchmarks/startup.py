"""What a new process pays: the import, and first calls."""

PREPARE = """
import numpy as np
import fastein
fastein.config(jit={jit!r})
a, b = np.ones((300, 200)), np.ones((200, 300))
"""


class Import:
    """In a new process each time, without the interpreter's own start."""

    def timeraw_numpy(self):
        return "import numpy"

    def timeraw_fastein(self):
        return "import fastein"

    def timeraw_fastein_after_numpy(self):
        return "import fastein", "import numpy"


class FirstCall:
    """The first call of an equation, by how much of fastein the process has used before."""

    params = (["tiered", "always", "never"],)
    param_names = ("jit",)

    def timeraw_cold(self, jit):
        """Nothing: whatever the call needs is loaded, the compiler perhaps."""
        return "fastein.einsum('ij,jk->ik', a, b)", PREPARE.format(jit=jit)

    def timeraw_warm(self, jit):
        """Another equation, so that only this equation's own cost is left."""
        setup = PREPARE.format(jit=jit) + "fastein.einsum('ij->j', a)"
        return "fastein.einsum('ij,jk->ik', a, b)", setup

    def timeraw_other_letters(self, jit):
        """The same loop nest under other labels: parsed and planned, not compiled again."""
        setup = PREPARE.format(jit=jit) + "fastein.einsum('ij,jk->ik', a, b)"
        return "fastein.einsum('xy,yz->xz', a, b)", setup


class FirstCallNumpy:
    """NumPy's first call, for scale."""

    def timeraw_cold(self):
        setup = "import numpy as np; a, b = np.ones((300, 200)), np.ones((200, 300))"
        return "np.einsum('ij,jk->ik', a, b)", setup

"""A permutation with everything decided, in C."""

from ._baseline cimport kernel_t
from ._streams cimport LINE

cdef enum:
    MOST_LOOPS = 66
    IMAGE = 20 << 10        # bytes of an image, or of the columns that are collected
    LINES_ROOM = LINE * LINE    # room that a kernel needs
    MOST_ROWS = 8 * LINE        # of a block that a kernel moves
    WINDOWS_ROOM = 2 * MOST_ROWS * (8 + LINE)   # of two words and two lines for each row

cdef enum Way:              # how the result is written
    PLAIN
    ALIGNED                 # past the caches, columns that begin at the same place of a line
    SHIFTED                 # ... anywhere, whole lines from two blocks
    IMAGE_WAY               # ... from images


cdef struct Loop:
    Py_ssize_t count
    Py_ssize_t read         # bytes from one iteration to the next, in the operand
    Py_ssize_t written      # ... and in the result

cdef struct Problem:
    kernel_t transpose      # NULL while there is none
    kernel_t move           # ahead of time
    Py_ssize_t size         # bytes of what is moved as one
    Py_ssize_t rows
    Py_ssize_t columns
    Py_ssize_t row_block
    Py_ssize_t column_block
    Py_ssize_t row_read     # bytes between rows in the operand, if they are one axis
    Py_ssize_t column_written
    Py_ssize_t row_written  # bytes between rows in the result
    Py_ssize_t column_read
    Py_ssize_t side         # rows and columns of a tile
    Py_ssize_t row_entries  # of the table: rows, rows asked for ahead, columns, image, ...
    Py_ssize_t stages       # ... columns of a tile, where they are collected; lines that are kept
    Py_ssize_t stage_lines  # of a column that are collected
    Py_ssize_t targets      # where columns begin in the table
    Py_ssize_t column_entries
    Py_ssize_t image_columns
    Py_ssize_t image_rows
    Py_ssize_t pitch        # bytes between columns of an image
    Py_ssize_t room
    Py_ssize_t windows      # where in the room those of rows are, 0 if rows are read as they lie
    Py_ssize_t window       # bytes of one
    Py_ssize_t *table
    Way way
    bint streams
    bint overruns           # whether tiles may have more rows than the image
    int rank
    int row_loop            # which loop runs over blocks of rows, and of columns
    int column_loop
    Loop[MOST_LOOPS] loop

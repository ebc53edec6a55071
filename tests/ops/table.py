"""The one table of operators that drives the tests: every row is called, checked against a float64 reference, torch and
differences, on every instruction set (tests/bits), and with its bad inputs.

A new operator is one more Row in the file of its family; test_table.py fails while an operator of thalweg.ops has none.
"""

from . import rows_elementwise, rows_norms, rows_products, rows_shapes
from .row import Row

TABLE: list[Row] = [*rows_elementwise.ROWS, *rows_products.ROWS, *rows_norms.ROWS, *rows_shapes.ROWS]

# Operators with random numbers: tested in test_dropout.py, there is no reference to compare them with.
RANDOM = {"dropout"}

# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy", "pandas"]
# ///
"""A small sales report with numpy and pandas.

    ol-exec run examples/pandas_report.py [rows]

The header above names the packages; ol-exec resolves them, mounts them lazily and runs this file in a sandbox. The
numbers are made from a fixed seed, so every run prints the same table.
"""

import sys

import numpy as np
import pandas as pd

rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
random = np.random.RandomState(2026)
sales = pd.DataFrame(
    {
        "region": random.choice(["north", "south", "east", "west"], rows),
        "units": random.randint(1, 20, rows),
        "price": random.choice([2.5, 4.0, 9.0], rows),
    }
)
sales["revenue"] = sales["units"] * sales["price"]
report = sales.groupby("region").agg(orders=("units", "size"), units=("units", "sum"), revenue=("revenue", "sum"))
print(report.sort_values("revenue", ascending=False).to_string())

"""Data to differentiate on: bundled sets and people's own files.

A file goes through three modules, each of which may refuse it in one sentence that names the line and the column:

1. `files` reads CSV, Parquet or NPZ into named columns;
2. `table` turns columns into finite numbers, and says what cannot become one;
3. `datasets` splits them into inputs and target, checks the target against the loss, and draws samples by number.

The bundled sets (`datasets` as well) are the notebook's points and three of scikit-learn's, which
need no download. All values are float64 until a case casts them.
"""

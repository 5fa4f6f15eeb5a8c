"""Data to differentiate on: bundled sets and people's own files.

A file goes through these modules, each of which may refuse it in one sentence that names the line and the column:

1. `files` reads it into named columns, by its extension: `csv_text` what has a sign between columns, `binary` Parquet,
   Feather, Excel and NPZ; `optional` says which library is missing for it;
2. `selection` says which columns are features, `labels` makes numbers of names of classes;
3. `table` turns columns into finite numbers, and says what cannot become one;
4. `datasets` splits them into inputs and target, and draws samples by number.

The bundled sets (`datasets` as well) are the notebook's points and three of scikit-learn's, which
need no download. All values are float64 until a case casts them.
"""

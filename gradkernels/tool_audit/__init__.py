"""The proof of somebody else's per-sample gradients: `gk.audit_tool(f, problem, (x, y))`.

A tool is any function that returns per-sample gradients, such as a model under Opacus' hooks, and it is called as its
users call it. The audit goes in this order:

1. `tool_calls` calls the tool, and sees that data and parameters stay as they were (`left_behind`: what else);
2. `result_forms` takes what came back for rows: names or order of parameters, shapes, dtypes;
3. `known_rows` has what must come out, from `gradkernels.check`: the gradient of each sample by a pass of its own, of a
   copy of the model without the tool's hooks (`clean_copy`);
4. `diagnosis` says what wrong rows are: a mean's 1/n left in, another order of samples, rows of zeros;
5. `trials` asks for the batch, and again; for other orders, sizes and lengths; at other parameters and dtypes
   (`other_batches` makes these data, `audit_trial` keeps the outcome of one);
6. `report` is what comes of it, a table, JSON or, by `html`, a page; `audit` puts it together.

`tools` has named set-ups of libraries, which are imported when they are asked for.
"""

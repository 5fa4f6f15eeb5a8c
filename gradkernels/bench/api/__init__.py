"""The harness from Python and notebooks: `gk.run`, `gk.compare` and what they give.

1. `plans` makes of the arguments a plan for each problem;
2. `run` measures plan after plan, as `gradkernels run` does, and gives Results;
3. `results` is a table of records: its winners, its summary, its picture, its text and its HTML;
4. `verdicts` is what comparing two such tables gives;
5. `race_functions` times any functions, in processes in which `function_worker` holds them against each other first;
   `alike` says what is the same.

Everything is measured in processes of its own; a notebook or script only waits. Kernels and problems that are declared
in a cell or a script travel there by cloudpickle (`gradkernels.bench.run.own_code`), and nothing is installed for it.
Where a quantity, a size or a kernel is given in words, the words are those of the command line.
"""

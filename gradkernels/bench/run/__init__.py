"""`gradkernels run`: prove every kernel, time it across sizes, write every row, find the winners.

1. `plan` lists cases and kernels, those that a person wrote among them (`own_code`); `resume` takes away what a file
   already has;
2. `session` opens the file and runs pass after pass, as long as the budget lasts;
3. `one_pass` visits every case, small ones first, until each kernel has its row, in as many processes as that takes;
4. `measuring_process` is one of them as the session sees it: orders go out, `messages` come back;
5. `worker` is the process itself. It does one `memory_pass` or a `timing_pass`, with the tools of
   `gradkernels.bench.timing`; `budget` shares the seconds among the cases, `case_reports` is what it says meanwhile;
6. `ranking` says who wins where, by how much, and why not the others; `recalled` says it of what was learned before.

`gradkernels.bench.race` drives sessions too, in which kernels that are surely slower drop out early.
"""

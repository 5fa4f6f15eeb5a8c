"""Processes: how one is started, watched, limited and ended. Nothing here knows of gradients.

A worker process, from start to end:

1. `environment` sets threads and variables before any array library loads, `program` is what the process runs;
2. `supervisor` starts it, sends orders, and yields its `messages`, one line of JSON each; `worker_side` answers;
3. `heartbeat` is a page of shared memory in which the worker says what it is at;
4. `watchdog` says when that has not changed for too long, `limits` how much time and memory it may take;
5. `process` ends it with everything it started, and puts its end into words; `errors` carry them on.

`machine_slot` keeps what needs a machine for itself from everything else that is measured there.
`signals` turns Ctrl-C and its like into an exception, so that nothing is left running. `fresh_process` calls one
function in a process of its own, for whoever needs no more.
"""

"""The harness: prove, time, record, compare, report. It stands on the library and is never imported by it."""

"""The benchmark: cases, methods, seeds in; units of work on disk; a report out. Start at `runner.run_bench`."""

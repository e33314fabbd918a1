"""HTML reports of runs, and figures of trained nets."""

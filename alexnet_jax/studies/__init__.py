"""Studies of many runs: ablations, Figure 1, specialization of columns, the paper's tables."""

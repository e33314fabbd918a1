"""Pages for whoever would rather look: of one run, of Figure 1, of ablations, of several runs."""

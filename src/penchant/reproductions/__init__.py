"""One file per paper: its claim, our run beside the baselines, and a verdict that can be false."""

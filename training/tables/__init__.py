"""Tables and figures of the paper from run folders: ours beside what was published."""

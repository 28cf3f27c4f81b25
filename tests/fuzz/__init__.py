"""Generated requests: whatever is sent, in whatever order, the answer is one that the specification knows."""

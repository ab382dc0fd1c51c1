"""The whole loop against known answers: faults are planted, the loop runs, and what it says is scored."""

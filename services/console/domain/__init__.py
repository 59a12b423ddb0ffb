"""What the console makes of what it sees: words, stages and drawings. Values in, values out."""

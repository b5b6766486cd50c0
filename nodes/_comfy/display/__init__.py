"""What is seen on a node while it works: words, progress, pictures."""

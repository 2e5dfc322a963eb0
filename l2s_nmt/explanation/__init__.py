"""What learning to search sees in single sentences, for people to look at."""

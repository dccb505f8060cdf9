"""Word tables: learned, pretrained or distilled from a teacher, and words that are added to a vocabulary."""

"""What the README and the pages of docs/ are made from, and measured by."""

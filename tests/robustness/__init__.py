"""What can go wrong, done on purpose and counted; run as commands, never collected by pytest."""

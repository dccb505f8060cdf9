"""Training recipes: each chooses, builds, fits, saves and scores; the loop is in sentemb.training.loop."""

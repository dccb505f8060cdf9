"""A study: many encoders trained and scored one like the other, their table, statistics, figures and page."""

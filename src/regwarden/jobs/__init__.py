"""What the service does by itself: what is due according to the tables, in this process."""

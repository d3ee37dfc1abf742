"""One HTML file of everything about a study, and its tables and figures as a W&B run."""

"""Numbers to pages of tables, and pages to Markdown, LaTeX, HTML and CSV."""

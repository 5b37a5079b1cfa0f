"""From verdicts and runs to pages: figures, notebooks, the site. Nothing here trains or judges."""

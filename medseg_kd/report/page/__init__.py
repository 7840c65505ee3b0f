"""The page of a run, ``report.html``: gathered after a test, written for one run or for several side by side."""

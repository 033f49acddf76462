"""The page "Why": a figure and a sentence for each diagnostic."""

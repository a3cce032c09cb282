"""A plan of results that takes seconds: two groups of sine waves, and one of images that are not there."""

SMALL = "dataset = 'sine', width = 8, iterations = 30, val_every = 15, val_tasks = 4, test_tasks = 6"
PLAN = f"""
[figures]
sine = "Sine waves"
tiny = "Tiny"

[[group]]
name = "five"
title = "Five points"
figure = "sine"
cells = {{ pamela = [0, 1], maml = [0, 1] }}
settings = {{ {SMALL}, shot = 5 }}

[[group]]
name = "ten"
title = "Ten points"
figure = "sine"
cells = {{ maml = [0] }}
settings = {{ {SMALL}, shot = 10 }}

[[group]]
name = "tiny"
title = "Tiny images"
figure = "tiny"
cells = {{ pamela = [0] }}
settings = {{ dataset = "tiny", way = 5, shot = 1 }}
"""

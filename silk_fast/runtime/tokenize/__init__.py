"""Corpora to tokens: a plan of units, and a shard for each, the same bytes whoever makes it. Needs pyarrow.

``run.tokenize`` does it all. That the shard of a unit is there means that the unit is done: so a run goes on where it
was stopped, and workers need to agree on nothing but the plan.
"""

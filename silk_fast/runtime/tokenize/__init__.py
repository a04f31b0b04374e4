"""Corpora to tokens: a plan of units, and a shard for each, the same bytes whoever makes it. Needs pyarrow.

``run.tokenize`` does it all. A unit is what is made or not; that its shard is there means that it is done, so a run goes
on where it was stopped, and workers need to agree on nothing but the plan.
"""

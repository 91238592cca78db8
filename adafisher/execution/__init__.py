"""How the step is carried out: plain, batched or compiled, scaled, over ranks and shards."""

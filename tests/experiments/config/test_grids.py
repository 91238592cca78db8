import shutil

import pytest

from experiments.config import commandline, compose, grids, identity

SEEDS = [["seed=0"], ["seed=1"], ["seed=2"]]
FORMS = {
    "words": ("seed: 0,1,2", SEEDS),
    "range": ("seed: range(0,3)", SEEDS),
    "a list of choices": ("seed: [0, 1, 2]", SEEDS),
    "a list of texts": (
        "schedule: [cosine, constant]",
        [["schedule=cosine"], ["schedule=constant"]],
    ),
    "glob": ("schedule: glob(co*)", [["schedule=constant"], ["schedule=cosine"]]),
    "a value that is a list": (
        "optimizer.betas: [0.8, 0.999]",
        [["optimizer.betas=[0.8,0.999]"]],
    ),
}


@pytest.mark.parametrize(("line", "jobs"), FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("place", ["hydra:\n  sweeper:\n    params:\n      ", "grids:\n  - "])
def test_every_form_of_a_value_is_a_sweep(line, jobs, place, tmp_path, monkeypatch):
    conf = tmp_path / "conf"
    shutil.copytree(commandline.CONF, conf)
    own = f"# @package _global_\ndefaults:\n  - override /optimizer: adam\n{place}{line}\n"
    (conf / "experiment" / "own.yaml").write_text(own)
    monkeypatch.setattr(commandline, "CONF", conf)
    (grid,) = grids.spelled_out(["experiment=own"])
    found = [
        [item for item in job if not item.startswith(("hydra.", "experiment="))]
        for job in commandline.jobs(grid)
    ]
    assert found == jobs


def test_the_name_of_a_recipe_is_no_part_of_a_run():
    plain, named = (compose.composed(typed) for typed in ([], ["recipe='batch 8 (ours)'"]))
    assert named.recipe == "batch 8 (ours)"
    assert plain.run_id == named.run_id
    assert identity.protocol(plain) == identity.protocol(named)

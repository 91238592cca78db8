import pytest

from experiments.config import commandline


def test_all_lists_the_folder():
    (override,) = commandline.normalise(["optimizer=all"])
    names = override.removeprefix("optimizer=").split(",")
    assert names == commandline.choices("optimizer")
    assert {"adafisher", "adam", "kfac", "sgd", "shampoo"} <= set(names)


def test_the_last_of_a_repeated_override_counts():
    typed = ["ruleset=tuned", "seed=0,1", "ruleset=default"]
    assert commandline.normalise(typed) == ["ruleset=default", "seed=0,1"]


@pytest.mark.parametrize(
    ("overrides", "jobs"),
    [
        (["seed=0"], [["seed=0"]]),
        (["seed=0,1", "task=digits"], [["seed=0", "task=digits"], ["seed=1", "task=digits"]]),
        (["seed=range(0,3)"], [["seed=0"], ["seed=1"], ["seed=2"]]),
        (
            ["optimizer=glob([sgd,adam*],exclude=adamw)"],
            [["optimizer=adam"], ["optimizer=sgd"]],
        ),
    ],
)
def test_jobs(overrides, jobs):
    assert commandline.jobs(overrides) == jobs


def test_a_glob_is_what_the_folder_has():
    (names,) = [[job[0] for job in commandline.jobs(["optimizer=glob(ada*)"])]]
    expected = [name for name in commandline.choices("optimizer") if name.startswith("ada")]
    assert names == [f"optimizer={name}" for name in expected]
    assert len(names) > 3


def test_samples_meet_every_value_and_no_more():
    jobs = list(commandline.samples(["a=1,2,3", "b=x,y", "c=z"]))
    assert len(jobs) == 1 + 2 + 1
    assert {item for job in jobs for item in job} == {"a=1", "a=2", "a=3", "b=x", "b=y", "c=z"}

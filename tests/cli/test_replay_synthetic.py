"""The project's own traffic: the same for the same seed, and in the replay's formats."""

from pathlib import Path

from cli.replaying.setup import compressed_policy
from cli.replaying.synthetic import synthetic_options
from cli.replaying.traces import read_arrivals, read_outcomes


def test_the_files_can_be_replayed(tmp_path: Path) -> None:
    options = synthetic_options(tmp_path, seed=3, service="demo", speed=30.0)
    names = tuple(model.name for model in options.models)
    arrivals, outcomes = read_arrivals(options.arrivals), read_outcomes(options.outcomes, names)
    assert abs(len(arrivals) / 3_600 - 6) < 0.5
    right = [sum(outcome.correct[index] for outcome in outcomes) / len(outcomes) for index in (0, 1)]
    assert right[0] > right[1] > 0.75
    assert (options.service, options.speed) == ("demo", 30.0)
    assert compressed_policy(options).constraints[0].min == 65


def test_a_seed_fixes_them(tmp_path: Path) -> None:
    contents = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / folder).mkdir()
        options = synthetic_options(tmp_path / folder, seed=seed)
        contents.append((options.arrivals.read_text(), options.outcomes.read_text()))
    assert contents[0] == contents[1]
    assert contents[0][0] != contents[2][0]
    assert contents[0][1] != contents[2][1]

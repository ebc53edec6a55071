"""The table that a sweep returns: columns, the best, groups, sums of results, text and files, parameters."""

import csv
import json
import math

import numpy as np
import pytest

from .small import data, sweep


@pytest.fixture(scope="module")
def result(tw):
    over = {"lr": [0.01, 0.1, 1e39], "seed": range(3)}
    return sweep(tw, over, validation_data=data(16, 2))


def same(a, b):
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_rows_are_in_the_order_of_over_and_columns_are_arrays(result):
    assert len(result) == 9 and [run.index for run in result] == list(range(9))
    np.testing.assert_array_equal(result["lr"], np.repeat([0.01, 0.1, 1e39], 3))
    np.testing.assert_array_equal(result["seed"], [0, 1, 2] * 3)
    assert result["val_loss"].shape == (9,) and result.history["val_loss"].shape == (9, 2)
    np.testing.assert_array_equal(result["val_loss"][:6], result.history["val_loss"][:6, -1])
    np.testing.assert_array_equal(result.history["lr"][0], [0.01, 0.01])
    assert result[4]["seed"] == 1 and result[4]["val_loss"] == result["val_loss"][4]
    assert [run.index for run in result[2:4]] == [2, 3]


def test_a_run_that_diverges_says_where_and_stops_no_other(tw, result):
    assert list(result["status"]) == ["finished"] * 6 + ["diverged"] * 3
    for run in result[6:]:
        trainer = tw.Trainer(
            tw.models.mlp((8,), 2), tw.losses.CrossEntropy(), tw.optim.SGD(1e39, 0.9), seed=run["seed"]
        )
        with pytest.raises(tw.DivergedError) as error:
            trainer.fit(*data(), epochs=2, batch_size=8, verbose=0)
        assert str(error.value) == run.error and run.updates == trainer.t
        assert math.isnan(run["loss"]) and f"diverged at update {run.updates + 1}" in str(result)


def test_the_best_is_the_best(result):
    values = result["val_loss"][:6]
    assert result.best().index == int(np.argmin(values))
    assert [run.index for run in result.ranked()] == list(np.argsort(values, kind="stable"))
    assert result.best("val_accuracy")["val_accuracy"] == result["val_accuracy"][:6].max()
    assert result.best("loss", "max").index == int(np.nanargmax(result["loss"]))
    with pytest.raises(ValueError, match=r"there is no 'f1'.*val_accuracy"):
        result.best("f1")
    with pytest.raises(ValueError, match="mode"):
        result.best("loss", "highest")
    with pytest.raises(KeyError, match="f1"):
        result[0]["f1"]


def test_groups_are_means_over_the_other_settings(result):
    groups = result.by("lr")
    assert [row["lr"] for row in groups.rows[-1:]] == [1e39] and groups.rows[-1]["finished"] == 0
    row = next(row for row in groups.rows if row["lr"] == 0.1)
    values = result["val_loss"][3:6]
    assert (row["runs"], row["finished"]) == (3, 3)
    np.testing.assert_allclose([row["mean"], row["std"]], [values.mean(), values.std(ddof=1)], rtol=1e-14)
    assert (row["best"], row["worst"]) == (values.min(), values.max())
    assert result.by("lr", monitor="accuracy")[0]["best"] == result["accuracy"][:6].max()
    assert len(result.by("seed", "lr")) == 9 and "mean val_loss" in str(groups)
    with pytest.raises(ValueError, match=r"'width' is no setting; there are lr, seed"):
        result.by("width")


def test_the_text_has_the_best_first(result):
    lines = str(result).splitlines()
    assert lines[0].split() == ["run", "lr", "seed", "loss", "accuracy", "val_loss", "*", "val_accuracy", "status"]
    assert lines[1].split()[0] == str(result.best().index) and repr(result) == str(result)
    assert lines[-1].startswith("9 runs in ") and "6 finished, 3 diverged; best val_loss" in lines[-1]
    assert len(lines) == 11


def test_long_tables_are_cut_and_shown_whole_on_demand(tw, capsys):
    result = sweep(tw, {"seed": range(23)}, epochs=1)
    assert "... 3 more" in str(result)
    result.show()
    assert "more" not in capsys.readouterr().out.replace("\n", " ")
    result.show(2, "accuracy")
    assert "accuracy *" in (out := capsys.readouterr().out) and "... 21 more" in out


@pytest.mark.parametrize("keep", ["best", "all", "none"])
def test_parameters_that_are_not_kept_are_made_again(tw, result, keep):
    found = sweep(tw, {"lr": [0.01, 0.1, 1e39], "seed": range(3)}, validation_data=data(16, 2), keep=keep)
    kept = [run.index for run in found if run._parameters is not None]
    assert kept == {"best": [found.best().index], "all": list(range(9)), "none": []}[keep]
    for i in (0, found.best().index, 8):
        assert same(found.parameters(i), result.trainer(i).parameters())
    assert same(found.parameters(), found.best().parameters())


def test_the_first_of_equal_runs_is_the_best(tw):
    found = sweep(tw, {"lr": [0.1] * 12})
    assert found.best().index == 0 and [run.index for run in found if run._parameters is not None] == [0]


def test_copies_are_copies(result):
    result.parameters()["1.weight"][...] = 7
    assert not (result.parameters()["1.weight"] == 7).any()


def test_the_trainer_of_a_run_goes_on(tw, result):
    x, y = data()
    trainer = result.trainer(threads=1)
    assert trainer.epoch == 2 and trainer.evaluate(*data(16, 2))["loss"] == pytest.approx(result.best()["val_loss"])
    trainer.optimizer.lr = 0.5
    trainer.fit(x, y, epochs=3, batch_size=8, verbose=0)
    assert trainer.epoch == 3
    assert result.trainer().optimizer.lr == result.best()["lr"]  # which is its own


def test_a_run_shows_what_it_is(result):
    assert repr(result[0]).startswith("SweepRun(0: lr=0.01, seed=0; finished, loss 0.")
    assert repr(result[8]).startswith("SweepRun(8: lr=1e+39, seed=2; diverged at update")


def test_a_run_that_can_not_be_made_again_says_so(tw):
    x, y = data()
    result = sweep(tw, {"seed": [0]}, data=(x, y), keep="none")
    x += 1
    with pytest.raises(RuntimeError, match="run 0 made again has other losses"):
        result.parameters(0)


def test_results_add_up(tw, result):
    more = sweep(tw, {"lr": [0.2], "seed": [0]}, validation_data=data(16, 2))
    both = result + more
    assert len(both) == 10 and both[9]["lr"] == 0.2 and not both.interrupted
    assert [run.index for run in both] == list(range(10)) and result[0].index == 0
    with pytest.raises(ValueError, match="one result has"):
        result + sweep(tw, {"seed": [0]}, epochs=1)


def test_files(tw, result, tmp_path):
    result.to_csv(tmp_path / "a.csv")
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [float(r["lr"]) for r in rows] == list(result["lr"]) and rows[0]["status"] == "finished"
    assert float(rows[3]["val_loss"]) == result["val_loss"][3] and rows[8]["val_loss"] == ""
    assert rows[8]["error"] == result[8].error and rows[2]["run"] == "2"
    result.to_jsonl(tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines[4]["history"]["loss"] == result[4].history["loss"].tolist() and lines[8]["loss"] is None
    assert lines[4]["updates"] == 10 and lines[4]["seed"] == 1


def test_settings_that_are_no_numbers(tw, tmp_path):
    nn = tw.nn
    result = sweep(
        tw, {"activation": [nn.ReLU, nn.Tanh], "hidden": [[4], [8, 4]]}, epochs=1,
        net=lambda activation, hidden: nn.Sequential(*[part for n in hidden for part in (nn.Linear(n), activation())],
                                                     nn.Linear(2)),
    )  # fmt: skip
    assert "Tanh" in str(result) and "[8, 4]" in str(result)
    assert result["activation"].tolist() == [nn.ReLU] * 2 + [nn.Tanh] * 2
    result.to_jsonl(tmp_path / "a.jsonl")
    assert len(result.by("hidden")) == 2
    assert result[1].parameters().keys() == {f"{i}.{part}" for i in (0, 2, 4) for part in ("weight", "bias")}

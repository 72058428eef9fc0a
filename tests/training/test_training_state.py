"""The state of a training on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine

from builders.evaluations import small_weights
from builders.lesion_data import make_cncb, make_covidx
from builders.training import classifier_workflow, segmentation_workflow
from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.paths import bundle_root
from covid_ct_mask_net.training.handlers import StopWithoutGain
from covid_ct_mask_net.training.training_state import SaveState, TrainingState


def _state(folder: Path, **changes: Any) -> TrainingState:
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    evaluator = Engine(lambda *_: None)
    evaluator.state.best_metric, evaluator.state.best_metric_epoch = -1.0, -1
    return TrainingState(folder, network, optimizer, scheduler, {"seed": 1} | changes, evaluator)


def _train(state: TrainingState, epochs: int) -> Engine:
    def step(_: Engine, batch: torch.Tensor) -> None:
        state.optimizer.zero_grad()
        state.network(batch).sum().backward()
        state.optimizer.step()
        state.scheduler.step()

    engine = Engine(step)
    SaveState(state).attach(engine)
    engine.run([torch.ones(1, 2)] * 3, max_epochs=epochs)
    return engine


def test_network_optimizer_schedule_and_counters_come_back(tmp_path: Path) -> None:
    first = _state(tmp_path)
    first.evaluator.state.best_metric, first.evaluator.state.best_metric_epoch = 0.5, 2  # type: ignore[union-attr]
    _train(first, 2)
    second, engine = _state(tmp_path), Engine(lambda *_: None)
    second.resume(engine)
    assert (engine.state.epoch, engine.state.iteration) == (2, 6)
    assert torch.equal(second.network.weight, first.network.weight)
    assert second.optimizer.param_groups[0]["lr"] == first.optimizer.param_groups[0]["lr"] == 0.1 * 0.5**6
    assert second.scheduler.last_epoch == 6
    assert second.evaluator.state.best_metric_epoch == 2  # type: ignore[union-attr]
    moments = [next(iter(s.optimizer.state.values()))["exp_avg"] for s in (first, second)]
    assert torch.equal(*moments)


def test_what_stops_a_training_is_part_of_its_state_whatever_its_handlers_are(tmp_path: Path) -> None:
    run, weights = tmp_path / "run", str(small_weights(tmp_path / "start") / "model.pt")
    for training in (
        segmentation_workflow(make_cncb(tmp_path / "cncb"), run, train__handlers=["@train#stopping"]),
        classifier_workflow(
            make_covidx(tmp_path / "covidx") / "images", run, weights=weights, mode="s_bn",
            train__handlers=["@train#stopping"],
        ),
    ):  # fmt: skip
        training.parser.parse()
        (handler,) = training.parser.get_parsed_content("train#handlers")
        assert isinstance(handler, StopWithoutGain)
        assert training.parser.get_parsed_content("state").parts == {"stopping": handler}
    training = segmentation_workflow(tmp_path / "cncb", run)
    training.parser.parse()
    stopping = training.parser.get_parsed_content("state").parts["stopping"]
    assert stopping in training.parser.get_parsed_content("train#handlers")


def test_no_configuration_names_an_entry_by_its_place_in_a_list() -> None:
    for path in (bundle_root() / "configs").glob("*.yaml"):
        assert not re.findall(r"@[\w#]+#\d+", path.read_text(encoding="utf-8")), path.name


def test_a_run_is_never_written_over_unasked(tmp_path: Path) -> None:
    state = _state(tmp_path)
    state.begin()
    _train(state, 1)
    with pytest.raises(UsageError, match=r"There is a run in .* already; go on with it by --resume true"):
        state.begin()


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    _train(_state(tmp_path), 1)
    with pytest.raises(UsageError, match="other values of data, seed"):
        _state(tmp_path, seed=2, data="x").resume(Engine(lambda *_: None))


def test_missing_and_foreign_files_end_in_a_sentence(tmp_path: Path) -> None:
    state = _state(tmp_path)
    with pytest.raises(UsageError, match="no run to go on with"):
        state.resume(Engine(lambda *_: None))
    state.path.write_bytes(b"junk")
    with pytest.raises(RefusedInputError, match=r"state.pt cannot be read"):
        state.resume(Engine(lambda *_: None))
    torch.save({"format": "another"}, state.path)
    with pytest.raises(RefusedInputError, match="no state of a training"):
        state.resume(Engine(lambda *_: None))


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    state = _state(tmp_path)
    state.write = False
    _train(state, 1)
    assert not state.path.exists()


def test_further_parts_go_on(tmp_path: Path) -> None:
    def state(scale: float) -> TrainingState:
        one = _state(tmp_path)
        one.parts = {"scheduler": torch.optim.lr_scheduler.ExponentialLR(one.optimizer, scale)}
        return one

    _train(state(0.25), 1)
    again = state(0.5)
    again.resume(Engine(lambda *_: None))
    assert again.parts["scheduler"].gamma == 0.25  # type: ignore[attr-defined]
    more = state(0.75)
    more.parts["another"] = torch.optim.lr_scheduler.ExponentialLR(more.optimizer, 0.125)
    more.resume(Engine(lambda *_: None))
    assert more.parts["another"].gamma == 0.125

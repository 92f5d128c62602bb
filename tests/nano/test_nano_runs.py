"""Nano's training runs: a resumed one is the uninterrupted one, processes train one model, stages follow each other.
Needs torch; a plain installation skips it.
"""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from toy_nano import TOY, toy_plan

from nano.conversations import VALIDATION, make_picture
from nano.labels import patch_labels
from nano.losses import Learner, apply_gradients
from nano.processes import Team
from nano.stages import ALL, DECODER, PROJECTOR, STAGES, TOWER
from nano.train import Sitting, _batches, _validation, train_stage
from nano.train import train as train_all
from nano.training_run import TOKENIZER, StageRun, borrow_tower, checkpoint_of

pytestmark = pytest.mark.usefixtures("one_thread")


def toy_run(folder, tokenizer, name=TOWER, **plan):
    folder.mkdir(exist_ok=True)
    (folder / TOKENIZER).write_bytes(tokenizer.path.read_bytes())
    return StageRun.start(toy_plan(**plan), name, folder)


def go_on(run, n_more, monkeypatch):
    """Train `n_more` steps, then be interrupted as by Ctrl-C."""

    class Stop:
        def __init__(self):
            self.left = n_more

        @property
        def asked(self):
            self.left -= 1
            return self.left <= 0

    monkeypatch.setattr("nano.train._StopSignal", Stop)
    train_stage(run, Team(), Sitting(n_validation=1))
    return run


@pytest.mark.parametrize("name", [TOWER, DECODER])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, tokenizer, monkeypatch, name):
    whole = go_on(toy_run(tmp_path / "whole", tokenizer, name), 6, monkeypatch)
    parted = go_on(toy_run(tmp_path / "parted", tokenizer, name), 2, monkeypatch)
    assert parted.step == 2 and not parted.is_done
    parted = go_on(toy_run(tmp_path / "parted", tokenizer, name), 4, monkeypatch)
    assert whole.step == parted.step == 6 and whole.is_done and parted.is_done
    for key, value in whole.learner.state_dict().items():
        assert torch.equal(value, parted.learner.state_dict()[key]), key


def test_stages_go_on_from_those_before(tmp_path, tokenizer):
    """All stages in one process; each part comes from the stage that taught it last."""
    toy_run(tmp_path, tokenizer)
    plan = toy_plan(n_steps=2)
    train_all(plan, tmp_path, Sitting(n_validation=1), n_processes=1)
    states = {name: torch.load(checkpoint_of(tmp_path, name), weights_only=True)["learner"] for name in STAGES}
    seen, said, joined = "nano.model.vision_tower", "nano.lm_head.weight", "nano.model.mm_projector"
    for key, value in states[PROJECTOR].items():
        if key.startswith(seen):
            assert torch.equal(value, states[TOWER][key]), key
        if key == said:
            assert torch.equal(value, states[DECODER][key]) and not torch.equal(value, states[ALL][key])
        if key.startswith(joined) and key.endswith("weight"):
            assert not torch.equal(value, states[DECODER][key]), key
    train_all(plan, tmp_path, Sitting(n_validation=1), n_processes=1)  # all is done: nothing happens
    assert torch.equal(torch.load(checkpoint_of(tmp_path, ALL), weights_only=True)["learner"][said], states[ALL][said])


def test_two_processes_train_one_model(tmp_path, tokenizer):
    """Half a step's pictures each, gradients averaged: what one process learns from all, to rounding.

    The tower's loss is a mean over patches by weight, so the two halves' mean is not quite the whole's.
    """
    after = {}
    for n in (1, 2):
        toy_run(tmp_path / str(n), tokenizer)
        plan = toy_plan(n_steps=4)
        train_all(plan, tmp_path / str(n), Sitting(n_validation=1), n_processes=n)
        state = torch.load(checkpoint_of(tmp_path / str(n), ALL), weights_only=True)
        after[n] = state["learner"]["nano.lm_head.weight"]
        assert state["step"] == 4
    torch.manual_seed(0)
    begun = Learner(TOY).nano.lm_head.weight.detach()
    moves = [(after[n] - begun).flatten() for n in (1, 2)]
    assert torch.cosine_similarity(*moves, dim=0) > 0.9  # observed: 0.97


def test_a_run_with_pictures_in_english_only(tmp_path, tokenizer, monkeypatch):
    for name in (DECODER, TOWER):
        go_on(toy_run(tmp_path, tokenizer, name, image_languages=("en",)), 6, monkeypatch)
    run = toy_run(tmp_path, tokenizer, PROJECTOR, image_languages=("en",))
    assert [run.plan.recipe(PROJECTOR, 1).is_text(n) for n in range(4)] == [False, True, False, True]
    assert go_on(run, 4, monkeypatch).step == 4


def test_batches_for_training_leave_the_answers_behind(tmp_path, tokenizer):
    run = toy_run(tmp_path, tokenizer, DECODER)
    batch = next(_batches(run, tokenizer, Team(), Sitting()))
    assert batch.answers == [] and len(batch.asked_at) == len(batch.meanings) > 0


def test_validation_is_as_hard_as_the_test_and_in_all_languages(tmp_path, tokenizer):
    run = toy_run(tmp_path, tokenizer, image_languages=("en",))
    (batch,) = _validation(run, tokenizer, Sitting(n_validation=1))
    seeds = range(VALIDATION.start, VALIDATION.start + len(batch.fields))
    for shown, seed in zip(batch.fields, seeds, strict=True):
        expected = patch_labels(make_picture(seed).scene, TOY.n_side)  # of full difficulty
        assert torch.equal(shown, torch.from_numpy(expected.fields))
    decoder = toy_run(tmp_path, tokenizer, DECODER, image_languages=("en",))
    (batch,) = _validation(decoder, tokenizer, Sitting(n_validation=1))
    assert len({a.exchange.language for a in batch.answers}) > 2


def test_a_run_borrows_a_tower(tmp_path, tokenizer, monkeypatch):
    go_on(toy_run(tmp_path / "lender", tokenizer, n_steps=2), 2, monkeypatch)
    plan = toy_plan(n_steps=2, image_languages=("en",))
    toy_run(tmp_path / "run", tokenizer, DECODER)
    borrow_tower(plan, tmp_path / "run", tmp_path / "lender")
    train_all(plan, tmp_path / "run", Sitting(n_validation=1), n_processes=1)
    states = [torch.load(checkpoint_of(tmp_path / name, TOWER), weights_only=True) for name in ("lender", "run")]
    assert states[0]["learner"].keys() == states[1]["learner"].keys()
    assert all(torch.equal(states[0]["learner"][name], states[1]["learner"][name]) for name in states[0]["learner"])
    with pytest.raises(Exception, match="expected a run with a trained tower"):
        borrow_tower(replace(plan, sizes=replace(TOY, vision_n_ff=128)), tmp_path / "other", tmp_path / "lender")


def test_a_run_refuses_the_folder_of_another_plan(tmp_path, tokenizer, monkeypatch):
    go_on(toy_run(tmp_path / "run", tokenizer), 1, monkeypatch)
    with pytest.raises(Exception, match="use another --out"):
        toy_run(tmp_path / "run", tokenizer, n_steps=7)


def test_the_clock_ends_a_run_and_its_learning_rate(tmp_path, tokenizer, monkeypatch):
    rates = []

    def note(optimizer, parameters, rate):
        rates.append(rate)
        return apply_gradients(optimizer, parameters, rate)

    monkeypatch.setattr("nano.train.apply_gradients", note)
    run = toy_run(tmp_path / "run", tokenizer, n_steps=100_000)
    train_stage(run, Team(), Sitting(minutes=0.03, by_clock=True, n_validation=1))
    assert 3 < run.step < 2000 and run.is_done and run.checkpoint.exists()
    assert rates[-1] < 0.5 * max(rates)

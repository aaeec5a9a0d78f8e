"""The recipe of kanoclip-tiny: draw images, fit the text tower, train the image tower, export the weights."""

import csv
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.config import BackboneConfig, PretrainingConfig
from kanoclip.datasets.synthetic import HELD_OUT_DEFECTS, HELD_OUT_KINDS, TRAINING_DEFECTS, TRAINING_KINDS
from kanoclip.files import sha256, whole, write_json, write_text
from kanoclip.pretraining.averaging import DECIDING, Results, choose_average, merit
from kanoclip.pretraining.composites import composite_corpus
from kanoclip.pretraining.corpus import IMAGE_SIZE, Corpus, draw_corpus, stored_corpus
from kanoclip.pretraining.damping import choose_damping
from kanoclip.pretraining.final import FinalTraining
from kanoclip.pretraining.fittings import fitted_pair
from kanoclip.pretraining.image import ImageTraining
from kanoclip.pretraining.imagenet import load_efficientnet
from kanoclip.pretraining.losses import TEMPERATURE
from kanoclip.pretraining.makers import HELD_OUT_MAKERS, TRAINING_MAKERS
from kanoclip.pretraining.photographs import read_photographs, split
from kanoclip.pretraining.stages import Stage, drawn_stages, real_stages
from kanoclip.pretraining.text import LEARNING_RATE, REFIT_RATE, fit_text, stand_in_token, used_tokens
from kanoclip.pretraining.validation import validate
from kanoclip.types import InputError, logger, progress

MODEL = "kanoclip-tiny"
LOG_EVERY, SAVE_EVERY, VALIDATE_EVERY = 50, 250, 500  # steps
ALONE = ("training.pt", "train.csv", "validation.csv")  # state to resume from and logs of the tower's own training
FINAL = ("final.pt", "final_train.csv", "final_validation.csv")  # and of its last part
QUICK_PAIRS = 112  # pairs of each validation set that are used during training


def pretrain(out: Path, recipe: PretrainingConfig, resume: bool = True) -> Path:
    """Train kanoclip-tiny on drawn images and, if there are photographs, on composites.

    A training that starts from the shipped weights ends with the best weights between its start and its end. Then
    the blocks are damped (`kanoclip.pretraining.damping`). Both are chosen on the validation sets.

    Files in `out`: data/ (images, drawn once), text.safetensors, training.pt (to resume), train.csv,
    validation.csv, results.json and the weights with their checksum; for the last part final.pt,
    final_train.csv and final_validation.csv.

    Args:
        out: folder of the run.
        recipe: sizes, steps and seed.
        resume: continue from the files in `out`; False trains the towers from the start (drawn images are kept).

    Returns:
        The path of the weights, `out/kanoclip-tiny.safetensors`.

    Raises:
        InputError: no steps at all, photographs that are not in a folder yet, final steps without photographs, or the
            weights of the stem are not installed.
    """
    if recipe.public_photographs:
        sources = " ".join(f"--source {name}" for name in recipe.public_photographs)
        raise InputError(
            "pretraining.photographs: expected a folder, found public sources; run `snakemake pretrain`, which fetches "
            f"them, or `kanoclip photographs {sources} --out FOLDER`, and name that folder"
        )
    if not (schedule(recipe) or recipe.final_steps):
        raise InputError("pretraining.start: embedded trains nothing without steps; set pretraining.final_steps")
    if recipe.final_steps and recipe.photographs is None:
        raise InputError("pretraining.final_steps needs photographs, found none; set pretraining.photographs")
    if recipe.start == "nothing":
        load_efficientnet()  # initial weights need it only after all images are drawn; fail now if it is not installed
    if not resume:
        for name in ("text.safetensors", *ALONE, *FINAL):
            (out / name).unlink(missing_ok=True)
    started = time.perf_counter()
    training, composites, validation = draw_corpora(out / "data", recipe)
    warm = recipe.start == "embedded"
    weights = "embedded" if warm else f"random:{recipe.seed}"
    config = BackboneConfig(model=MODEL, weights=weights, image_size=IMAGE_SIZE)
    state = _text_state(out / "text.safetensors", config, recipe)
    end, stages = state, schedule(recipe)
    if stages:
        run = ImageTraining(config, state, training, stages, recipe.seed, composites, warm)
        _train(run, out, ALONE, validation)
        end = run.backbone.clip.state_dict()
    if recipe.final_steps:
        assert composites is not None
        run = FinalTraining(config, end, training, composites, recipe.final_steps, recipe.final_batch, recipe.seed)
        _train(run, out, FINAL, validation)
    backbone = run.at_full_size()

    def judge(names: Iterable[str] = validation) -> dict[str, dict[str, float]]:
        return {name: validate(backbone, validation[name], run.states, run.generic) for name in names}

    tried: dict[float, Results] = choose_average(backbone.clip, state, judge) if warm else {}
    damping = choose_damping(
        backbone.clip, backbone.layers, lambda: judge([name for name in DECIDING if name in validation])
    )
    written = {
        "recipe": recipe.model_dump(),
        "results": judge(),
        "share_of_the_end": max(tried, key=lambda share: merit(tried[share]), default=1.0),
        "shares": tried,
        "damping": max(damping, key=lambda factors: merit(damping[factors])),
        "dampings": [{"factors": factors, "results": results} for factors, results in damping.items()],
    }
    write_json(out / "results.json", written | {"seconds": time.perf_counter() - started})
    return export(backbone, out / f"{MODEL}.safetensors")


def schedule(recipe: PretrainingConfig) -> tuple[Stage, ...]:
    """Return the stages of a recipe that have steps, in order."""
    stages = real_stages(recipe.real_small_steps, recipe.real_large_steps, recipe.real_batch)
    if recipe.start == "nothing":
        stages = (*drawn_stages(recipe.small_steps, recipe.large_steps, recipe.mixed_steps), *stages)
    return tuple(stage for stage in stages if stage.steps)


def draw_corpora(folder: Path, recipe: PretrainingConfig) -> tuple[Corpus, Corpus | None, dict[str, Corpus]]:
    """Return the drawn training images, the composites if there are photographs, and the validation sets.

    The validation sets: held-out kinds, held-out defects, neither (other seeds), and composites of other photographs
    with other makers.
    """
    count, processes = recipe.validation_pairs, recipe.processes

    def drawn(name: str, kinds: Sequence[str], defects: Sequence[str], pairs: int, seed: int) -> Corpus:
        return draw_corpus(folder / name, kinds, defects, pairs, seed, processes)

    validation = {
        "held_out_kinds": drawn("held_out_kinds", HELD_OUT_KINDS, TRAINING_DEFECTS, count, 10_000_000),
        "held_out_defects": drawn("held_out_defects", TRAINING_KINDS, HELD_OUT_DEFECTS, count, 20_000_000),
        "seen": drawn("seen", TRAINING_KINDS, TRAINING_DEFECTS, count, 30_000_000),
    }
    composites = None
    if recipe.photographs is not None:
        assert isinstance(recipe.photographs, str)  # `pretrain` refuses public sources
        photographs, held_out = split(read_photographs(Path(recipe.photographs)))
        validation["held_out_composites"] = composite_corpus(
            folder / "held_out_composites", held_out, HELD_OUT_MAKERS, count, 40_000_000, processes
        )
        composites = composite_corpus(
            folder / "composites", photographs, TRAINING_MAKERS, recipe.composite_pairs, 0, processes
        )
    training = stored_corpus(
        folder / "training", partial(fitted_pair, TRAINING_KINDS, TRAINING_DEFECTS, 0), recipe.pairs, processes
    )
    return training, composites, validation


def _text_state(path: Path, config: BackboneConfig, recipe: PretrainingConfig) -> dict[str, Tensor]:
    """Return the parameters of the model with its fitted text tower, read from a file if it was fitted before.

    A tower that starts from the shipped weights is fitted to the same codes, so it still matches the image tower.
    """
    if not path.exists():
        backbone = load_backbone(config)
        rate = REFIT_RATE if recipe.start == "embedded" else LEARNING_RATE
        similarity = fit_text(backbone, recipe.text_steps, recipe.seed, rate)
        logger.info("text tower fitted: mean cosine with the code %.4f", similarity)
        with whole(path) as temporary:
            save_file({name: value.contiguous() for name, value in backbone.clip.state_dict().items()}, temporary)
    return load_file(path)


def _train(run: ImageTraining, out: Path, files: tuple[str, str, str], validation: Mapping[str, Corpus]) -> None:
    """Train to the end, from where a stopped run last saved its state; `files` are its state and its two logs."""
    saved, log, checks = (out / name for name in files)
    if saved.exists():
        run.restore(saved)
    for path in (log, checks):
        _forget_after(path, run.step)
    total = sum(stage.steps for stage in run.schedule)
    recent: list[dict[str, float]] = []
    started = time.perf_counter() - _seconds_so_far(log)
    if run.step == 0:
        _append(checks, _validated(run, validation))
    for _ in progress(range(run.step, total), "image tower", total - run.step):
        stage = run.stage()
        assert stage is not None
        recent.append(run.advance(stage))
        last = run.step == total
        if run.step % LOG_EVERY == 0 or last:
            means = {f"loss_{name}": float(mean) for name, mean in pd.DataFrame(recent).mean().items()}
            _append(log, {"step": run.step, "size": stage.size, **means, "seconds": time.perf_counter() - started})
            recent.clear()
        if run.step % VALIDATE_EVERY == 0 or last:
            _append(checks, _validated(run, validation))
        if run.step % SAVE_EVERY == 0 or last:
            run.save(saved)


def _validated(run: ImageTraining, validation: Mapping[str, Corpus]) -> dict[str, float]:
    """Return quick validation results at the full image size, during training."""
    backbone = run.at_full_size()
    results = {
        name: validate(backbone, corpus.first(QUICK_PAIRS), run.states, run.generic, stride=4)
        for name, corpus in validation.items()
    }
    return {"step": run.step} | {f"{name}_{key}": value for name, row in results.items() for key, value in row.items()}


def _forget_after(path: Path, step: int) -> None:
    """Drop the rows that a stopped run logged after it last saved its state."""
    if path.exists():
        rows = pd.read_csv(path)
        write_text(path, rows[rows["step"] <= step].to_csv(index=False))


def _seconds_so_far(path: Path) -> float:
    """Return the training time of earlier runs, from the last row of the log."""
    return float(pd.read_csv(path)["seconds"].iloc[-1]) if path.exists() else 0.0


def _append(path: Path, row: Mapping[str, float]) -> None:
    """Add a row to a CSV file, with a header if it is the first."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


def export(backbone: Backbone, path: Path) -> Path:
    """Write the weights to ship: fp16, with only the used rows of the token table and a last one for all other tokens.

    Args:
        backbone: at the full image size.
        path: ends in .safetensors; a .sha256 file is written beside it.
    """
    state = {name: value.detach().cpu() for name, value in backbone.clip.state_dict().items() if name != "attn_mask"}
    ids = used_tokens(backbone)
    rows = torch.tensor([*ids, stand_in_token(backbone)])
    state["token_embedding.weight"] = state["token_embedding.weight"][rows]
    state["logit_scale"] = torch.tensor(1 / TEMPERATURE).log()
    shipped = {name: value.half().contiguous() if value.is_floating_point() else value for name, value in state.items()}
    with whole(path) as temporary:
        save_file({**shipped, "token_ids": torch.tensor(ids)}, temporary)
    path.chmod(0o644)
    write_text(path.with_suffix(".sha256"), f"{sha256(path)}  {path.name}\n")
    return path

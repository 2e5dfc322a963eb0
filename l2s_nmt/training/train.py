"""Train a run from its recipe."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from accelerate import Accelerator

from l2s_nmt.architecture import save_model
from l2s_nmt.build_cost import texts
from l2s_nmt.cpu import keep_freed_memory
from l2s_nmt.errors import UserError
from l2s_nmt.evaluation.card import write_card
from l2s_nmt.evaluation.translate import Decoding
from l2s_nmt.files import writing
from l2s_nmt.model import Policy
from l2s_nmt.own_code import same_code
from l2s_nmt.processes import Processes, in_touch
from l2s_nmt.recipe import Recipe
from l2s_nmt.run import Run, command_line, open_run, same_data
from l2s_nmt.training import build, prepare
from l2s_nmt.training.checkpoints import Progress, list_checkpoints, read_state
from l2s_nmt.training.loop import Trainer
from l2s_nmt.training.lossy import lossy_stderr
from l2s_nmt.training.other_models import stamp_of_start, stamps_of_others
from l2s_nmt.training.progress import Display
from l2s_nmt.training.sharding import shard, weights_of
from l2s_nmt.training.starts import Starts
from l2s_nmt.training.trackers import check_trackers, end_trackers, start_trackers
from l2s_nmt.training.validate import Validator


def train(recipe: Recipe, output: str | Path) -> Run:
    """Train to the recipe's limits, or go on where an earlier sitting stopped.

    Args:
        recipe: what to train.
        output: the run directory; a finished run of the same recipe is left as it is.

    Raises:
        UserError: recipe, data, model or run directory are unsound.
        TrainingFailed: numbers are not finite, a file cannot be written, or another process failed.
        Interrupted: a signal came; the same call goes on.
    """
    check_trackers(recipe.training.trackers)
    accelerator = build.build_accelerator(recipe, str(output))
    with in_touch(accelerator):
        return _train(recipe, Path(output), accelerator)


def _train(recipe: Recipe, folder: Path, accelerator: Accelerator) -> Run:
    display = Display(accelerator.is_main_process, lossy_stderr())
    run = Run(folder)
    processes = Processes.of(accelerator)
    with accelerator.main_process_first():  # the others find what it wrote
        if accelerator.is_main_process:
            with writing(folder):
                open_run(folder, recipe, command_line())
        corpus = prepare.read_corpus(recipe, display.say)
        if accelerator.is_main_process:
            with writing(folder):
                same_code(run, recipe.search)
                stamps = {**corpus.stamps, **stamps_of_others(recipe)}
                start = {} if run.data.exists() else stamp_of_start(recipe)
                same_data(run, recipe, stamps, noted=start, ended=_is_trained(run, recipe))
        with writing(folder):
            tokenizer = prepare.find_tokenizer(recipe, corpus, run.tokenizer)
        model = prepare.find_model(recipe, tokenizer)
        data = prepare.training_data(recipe, corpus, tokenizer, model, display.say, processes)
    evaluation = recipe.evaluation
    Decoding(evaluation.beam, evaluation.length_penalty, evaluation.max_length).configure(model)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    start_trackers(accelerator, recipe, folder)
    policy = Policy(model.to(accelerator.device), recipe.search.max_branch_tokens)
    if shard(accelerator, policy):
        display.say(f"weights are dealt out to {accelerator.num_processes} processes (FSDP)")
    stepper = build.build_stepper(recipe, policy, accelerator, display.say)
    averager = build.build_averager(recipe, policy)
    limit = build.build_limit(recipe.search, policy)
    in_words = texts(tokenizer, recipe.bleu_tokenizer)

    def save_weights(name: str) -> None:
        weights = weights_of(policy.model)
        if accelerator.is_main_process:
            save_model(policy.model, tokenizer, folder / name, weights)

    trainer = Trainer(
        accelerator=accelerator,
        policy=policy,
        stepper=stepper,
        schedule=build.build_schedule(recipe),
        averager=averager,
        starts=Starts(averager, stepper),
        search=prepare.find_search(recipe, corpus, tokenizer, policy, in_words),
        aggregate=build.build_aggregate(recipe, folder, accelerator),
        objective=build.build_objective(recipe),
        data=data,
        limits=build.build_limits(recipe),
        validate=Validator(
            policy=policy,
            tokenizer=tokenizer,
            sources=corpus.valid["source"][:],
            references=corpus.valid["references"][:],
            limit=limit,
            batch_tokens=evaluation.batch_tokens,
            processes=processes,
            bleu_tokenizer=recipe.bleu_tokenizer,
        ),
        save_weights=save_weights,
        folder=folder,
        seed=recipe.seed,
        accumulation=recipe.training.accumulation,
        display=display,
        texts=in_words,
    )
    progress = trainer.run()
    if accelerator.is_main_process:
        with writing(folder):
            write_card(run)
    end_trackers(accelerator)
    display.say(_closing(progress, folder))
    return run


def _is_trained(run: Run, recipe: Recipe) -> bool:
    """Whether nothing is left to do, as the newest checkpoint says; training itself looks whether that is whole."""
    for newest in list_checkpoints(run.checkpoints)[-1:]:
        with suppress(UserError):
            progress, _ = read_state(newest)
            return progress.finished and build.build_limits(recipe).reached(progress)
    return False


def _closing(progress: Progress, folder: Path) -> str:
    skipped = f" ({progress.skipped} of them skipped)" if progress.skipped else ""
    return (
        f"done: {progress.update} updates{skipped} in {progress.seconds / 60:.1f} minutes; best validation BLEU "
        f"{progress.best_bleu:.2f} at update {progress.best_update}; weights in {folder / 'best'}"
    )

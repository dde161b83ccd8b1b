"""`python -m finetune.pretrain`: a base model from a pinned corpus, one sub-command a step."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from server.lm.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Runs a sub-command; 0 done, 1 failed with a message, 2 wrong usage, 130 interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    options = _parser().parse_args(arguments)
    options.arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return int(options.run(options) or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last saved state", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    from finetune.pretrain import corpus

    parser = argparse.ArgumentParser(prog="python -m finetune.pretrain", description=__doc__)
    steps = parser.add_subparsers(required=True, metavar="STEP")

    step = steps.add_parser("corpus", help="collect permissively licensed sources from archives on disk")
    corpus.add_arguments(step)
    step.set_defaults(run=corpus.main)

    step = steps.add_parser("vocabulary", help="learn the byte-level BPE")
    step.add_argument("--corpus", type=Path, required=True)
    step.add_argument("--output", type=Path, required=True, help="folder for tokenizer.json")
    step.add_argument("--size", type=int, default=4096)
    step.add_argument("--megabytes", type=int, default=40, help="how much text to learn from")
    step.add_argument("--from-larger", type=Path, help="cut this learned tokenizer.json down instead")
    step.set_defaults(run=_vocabulary)

    step = steps.add_parser("rows", help="turn the corpus into training rows")
    step.add_argument("--corpus", type=Path, required=True)
    step.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    step.add_argument("--output", type=Path, required=True, help="the .npy file to write")
    step.add_argument("--length", type=int, default=512, help="tokens a row")
    step.add_argument("--tokens", type=int, help="stop at this many")
    step.add_argument("--package-megabytes", type=float, default=2.0, help="at most this much of one package")
    step.add_argument("--seed", type=int, default=1)
    step.add_argument("--split", choices=("train", "heldout"), default="train", help="of which packages")
    step.set_defaults(run=_rows)

    step = steps.add_parser("shard", help="cut rows into compressed shards that can travel one by one")
    step.add_argument("--rows", type=Path, required=True)
    step.add_argument("--output", type=Path, required=True, help="folder for the shards and shards.json")
    step.add_argument("--megabytes", type=float, default=45, help="a shard's size at most, in MiB")
    step.add_argument("--seed", type=int, default=1)
    step.set_defaults(run=_shard)

    step = steps.add_parser("train", help="train, or go on training, within a budget")
    step.add_argument("--rows", type=Path, required=True, help="an .npy file, or a folder of shards")
    step.add_argument("--long-rows", type=Path, help="longer rows for the last part of the run")
    step.add_argument("--long-share", type=float, default=0.3)
    step.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    step.add_argument("--output", type=Path, required=True, help="folder for the state and the finished checkpoint")
    _training_arguments(step)
    step.set_defaults(run=_train)

    step = steps.add_parser("staged", help="train in the background on a lent machine, as shards arrive")
    step.add_argument("--shards", type=Path, required=True, help="folder with shards.json and the shards so far")
    step.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    step.add_argument("--output", type=Path, required=True, help="folder for log, run and parts")
    step.add_argument("--watch", type=float, metavar="SECONDS", help="show the log for so long, less when it ends")
    step.add_argument("--heldout", type=Path, help="rows or one shard of held-out packages, for a quick look")
    step.add_argument("--heldout-rows", type=int, default=512, help="at most so many of them")
    step.add_argument("--part-megabytes", type=float, default=15, help="a part's size at most, in MiB")
    step.add_argument("--foreground", action="store_true", help=argparse.SUPPRESS)  # what runs in the background
    _training_arguments(step)
    step.set_defaults(run=_staged, layers=12, width=512, heads=8, batch_tokens=262_144, warmup_steps=200, threads=8)

    step = steps.add_parser("join", help="put the parts of a staged run together again")
    step.add_argument("--parts", type=Path, required=True, nargs="+", help="the folders in which the parts arrived")
    step.add_argument("--output", type=Path, required=True, help="the run's folder, to be made")
    step.set_defaults(run=_join)

    step = steps.add_parser("evaluate", help="judge a checkpoint on held-out packages and write its model card")
    step.add_argument("--checkpoint", type=Path, required=True, help="a run's folder, its training done")
    step.add_argument("--corpus", type=Path, required=True)
    step.add_argument("--kilobytes", type=int, default=400, help="held-out text for bits per byte")
    step.add_argument(
        "--training-megabytes", type=float, default=20, help="training text for the n-gram model and similar functions"
    )
    step.add_argument("--lines", type=int, default=300, help="held-out lines to write, and as many ends of lines")
    step.add_argument("--functions", type=int, default=200, help="held-out functions to explain")
    step.add_argument(
        "--former",
        type=Path,
        help="the model to be replaced, measured too; default: the server's own base_model folder",
    )
    step.add_argument("--threads", type=int, default=2)
    step.set_defaults(run=_evaluate)

    step = steps.add_parser("ship", help="make an evaluated run the base model of the server")
    step.add_argument("--checkpoint", type=Path, required=True, help="the run's folder")
    step.add_argument("--output", type=Path, help="default: the server's own base_model folder")
    step.set_defaults(run=_ship)
    return parser


def _training_arguments(step: argparse.ArgumentParser) -> None:
    step.add_argument("--from", type=Path, dest="start", help="a checkpoint whose weights are the first ones")
    step.add_argument("--layers", type=int, default=4)
    step.add_argument("--width", type=int, default=256)
    step.add_argument("--heads", type=int, default=4)
    step.add_argument("--context", type=int, default=1024)
    step.add_argument("--minutes", type=float)
    step.add_argument("--tokens", type=int)
    step.add_argument("--batch-tokens", type=int, default=4096)
    step.add_argument("--muon-rate", type=float, default=0.02)
    step.add_argument("--adam-rate", type=float, default=3e-3)
    step.add_argument("--warmup-steps", type=int, default=60)
    step.add_argument("--decay-share", type=float, default=0.4)
    step.add_argument("--seed", type=int, default=1)
    step.add_argument("--threads", type=int, default=2)
    step.add_argument("--checkpoint-seconds", type=float, default=240.0, help="how often the state is saved")
    step.add_argument("--log-seconds", type=float, default=15.0)
    step.add_argument("--peak-tflops", type=float, help="of the device in bfloat16; known for some GPUs")
    step.add_argument("--no-compile", action="store_true", help="on a GPU: run the model as it is written")


def _vocabulary(options: argparse.Namespace) -> None:
    from finetune.pretrain import rows, vocabulary

    if options.from_larger:
        larger = options.from_larger.read_text(encoding="utf-8")
        vocabulary.save(vocabulary.smaller(larger, options.size), options.output)
        return
    texts, left = [], options.megabytes * 1_000_000
    for package in rows.by_package(rows.read_files(options.corpus, "train"), 400_000, seed=0):
        for file in package:
            if left > 0:
                texts.append(file.text)
                left -= len(file.text)
    vocabulary.save(vocabulary.learn(texts, options.size), options.output)


def _rows(options: argparse.Namespace) -> None:
    from finetune.pretrain.rows import RowPlan, make_rows

    max_bytes = int(options.package_megabytes * 1_000_000)
    make_rows(
        RowPlan(
            corpus=options.corpus,
            tokenizer=options.tokenizer,
            output=options.output,
            length=options.length,
            max_tokens=options.tokens,
            max_package_bytes=max_bytes,
            seed=options.seed,
            split=options.split,
        )
    )


def _shard(options: argparse.Namespace) -> None:
    from finetune.pretrain.shards import MEGABYTE, write_shards

    write_shards(options.rows, options.output, int(options.megabytes * MEGABYTE), options.seed)


def _train(options: argparse.Namespace) -> None:
    _run_training(options, options.rows, options.output, options.long_rows, options.long_share)


def _staged(options: argparse.Namespace) -> None:
    from finetune.pretrain import staged
    from finetune.pretrain.shards import MEGABYTE

    run = options.output / staged.RUN_FOLDER
    if not options.foreground:
        staged.start(options.output, options.shards, run / "unpacked", options.arguments)
        if options.watch is not None:
            staged.watch(options.output, options.watch)
        return
    figures = _run_training(options, options.shards, run)
    part_bytes = int(options.part_megabytes * MEGABYTE)
    plan = staged.Finish(options.tokenizer, options.heldout, options.heldout_rows, part_bytes)
    staged.finish(options.output, figures, plan)


def _join(options: argparse.Namespace) -> None:
    from finetune.pretrain.parts import join_parts

    names = join_parts(options.parts, options.output)
    print(f"{', '.join(names)} in {options.output}")


def _run_training(
    options: argparse.Namespace, rows: Path, output: Path, long_rows: Path | None = None, long_share: float = 0.3
) -> dict[str, object]:
    """Trains as the options say; how fast it went, for a record."""
    import shutil

    from finetune.pretrain.gpt2 import Shape
    from finetune.pretrain.trainer import Plan, speed, train
    from server.lm.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(options.tokenizer)
    shape = Shape(options.layers, options.width, options.heads, options.context, tokenizer.vocab_size)
    plan = Plan(
        shape=shape,
        rows=rows,
        long_rows=long_rows,
        long_share=long_share,
        tokenizer=tokenizer.fingerprint,
        output=output,
        start=options.start,
        minutes=options.minutes,
        tokens=options.tokens,
        batch_tokens=options.batch_tokens,
        muon_rate=options.muon_rate,
        adam_rate=options.adam_rate,
        warmup_steps=options.warmup_steps,
        decay_share=options.decay_share,
        seed=options.seed,
        threads=options.threads,
        checkpoint_seconds=options.checkpoint_seconds,
        log_seconds=options.log_seconds,
        peak_tflops=options.peak_tflops,
        compiled=not options.no_compile,
    )
    train(plan)
    shutil.copyfile(options.tokenizer / "tokenizer.json", output / "tokenizer.json")
    return speed(plan)


def _evaluate(options: argparse.Namespace) -> None:
    from finetune.pretrain.card import model_card, read_records
    from finetune.pretrain.evaluate import EvaluationPlan, evaluate
    from finetune.pretrain.loss_curve import write_loss_curve
    from finetune.pretrain.run_folder import write_card, write_evaluation
    from finetune.pretrain.shipping import BASE_MODEL

    records = read_records(options.checkpoint, options.corpus)
    figures = evaluate(
        EvaluationPlan(
            checkpoint=options.checkpoint,
            corpus=options.corpus,
            n_bytes=1_000 * options.kilobytes,
            former=options.former or BASE_MODEL,
            n_training_bytes=int(1_000_000 * options.training_megabytes),
            n_lines=options.lines,
            n_functions=options.functions,
            threads=options.threads,
        )
    )
    figures["trained_tokens"] = records.trained_tokens
    write_loss_curve(options.checkpoint, records.log)
    write_evaluation(options.checkpoint, figures)
    write_card(options.checkpoint, model_card(records, figures))


def _ship(options: argparse.Namespace) -> None:
    from finetune.pretrain.shipping import BASE_MODEL, ship

    ship(options.checkpoint, options.output or BASE_MODEL)


if __name__ == "__main__":
    sys.exit(main())

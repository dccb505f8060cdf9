"""One training run, stage by stage: corpus, encoder, pairs, objective, training.

The recipes and :func:`sentemb.train` go through the same stages. Each stage takes settings, or the caller's own object
in their place. Nothing is written into the run folder before all settings are checked.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers.utils import logging

from sentemb.corpus import CLEANINGS, Corpus, open_corpus, with_lines, word_pieces
from sentemb.encoders import (
    HEADS,
    LoraAdapters,
    Prompts,
    copy_without_adapters,
    load,
    parse_lora,
    prompts_of,
    tokenizer_of,
    towers_of,
)
from sentemb.errors import InputError
from sentemb.forward import MaskedWords, TrainingEncoder
from sentemb.mining import Computation, mining_notes, parse_negatives, refuse_no_use_of_negatives
from sentemb.objectives import Matryoshka, Objective, build_objective
from sentemb.pairs import Pairs
from sentemb.pipeline.begun_run import BegunRun
from sentemb.pipeline.claim import claimed
from sentemb.pipeline.config_file import RunDescription, write_config
from sentemb.pipeline.data import PreparedData, prepare_data, with_mined_negatives
from sentemb.pipeline.model import check_encoder, make_model, named_texts, refuse_no_noise, tower_dimension
from sentemb.pipeline.notes import adapter_notes, corpus_notes, long_warmup, passage_notes, prompt_notes
from sentemb.pipeline.processes import make_accelerator, precision_of, preserved_caller_state
from sentemb.pipeline.resume import (
    changed_meanings,
    config_begun,
    differences,
    finished,
    how_to_resume,
    on_processes,
    prompts_begun_with,
    refuse_another_run,
    retrieval_before,
)
from sentemb.pipeline.saved_model import save_trained_model, selected
from sentemb.pipeline.settings import (
    ComputeSettings,
    DataSettings,
    EncoderSettings,
    EvaluationSettings,
    ObjectiveSettings,
    PairSettings,
    RunSettings,
)
from sentemb.pipeline.teaching import ChosenTeacher, chosen_teacher, reference_of, refuse_unused_guide, with_embeddings
from sentemb.pipeline.trained_run import TrainedRun
from sentemb.pipeline.training_scores import ScoresOfTraining, in_space_of_teacher
from sentemb.registry import build, check
from sentemb.runs import (
    TRAINED_FOLDERS,
    RunFolder,
    least_held_out,
    parse_prefixes,
    refuse_foreign,
    shorter_prefixes,
)
from sentemb.storage import write_folder
from sentemb.teacher import sentence_runs
from sentemb.training import (
    Evaluation,
    FitResult,
    Heartbeat,
    Lane,
    Patience,
    RunTarget,
    TrainingSettings,
    agreed_checkpoint,
    describe,
    fit,
    last_checkpoint_of,
    on_main,
    refuse_misfit,
    refuse_other_dimension,
    report_to_others,
    tell,
    total_steps,
    tune_malloc,
    use_threads,
)
from sentemb.validation import (
    LEAST_SENTENCES,
    RETRIEVAL,
    TEACHER_SIMILARITY,
    CachedEncoder,
    DevScore,
    EmbeddingMemory,
    HeldOutPairs,
    TextTokens,
    held_out_pairs,
    sides_of,
)


class Experiment:
    """One training run in stages, as a context: processes and random states are put in order at its end.

    Args:
        name: of the run folder, where none is given: runs/NAME.
        run: the run folder, and whether the run in it is continued.
        training: how to train.
        compute: precision, threads, tracker.
        transformer: whether the encoder is a transformer, which decides the precision where that is "auto".

    Raises:
        InputError: the processes cannot be set up, or do not fit the run that is continued.
    """

    def __init__(
        self,
        name: str,
        run: RunSettings,
        training: TrainingSettings,
        compute: ComputeSettings,
        transformer: bool = False,
    ) -> None:
        self.name, self.run, self.compute = name, run, compute
        self.training, self.transformer = training, transformer
        self.begun = config_begun(run.out, run.resume)  # config.json of the run that is continued
        self.stored: dict[str, Any] = asdict(compute)  # the settings that config.json gets
        if run.imports:
            self.stored["imports"] = list(run.imports)
        before = self.begun.get("settings", {}).get("imports", [])
        if [Path(path).name for path in before] != [Path(path).name for path in run.imports] and self.begun:
            raise InputError(
                f"{run.out} was started with --import {' '.join(before) or 'nothing'}; give the same again"
            )
        self.prompts = Prompts()
        self.text_tokens = TextTokens()  # of what scores the model, at each evaluation
        self.saves_selected = True  # whether best/ and last/ are written, where they are not needed for model/
        self.chosen_teacher: ChosenTeacher | None = None
        self.teacher: dict[str, Any] | None = None  # what config.json gets of the teacher
        self.guide: dict[str, Any] | None = None  # and of the guide
        self.made_objective: Objective | None = None
        self.adapters: LoraAdapters | None = None  # of the encoder, until its run has ended
        self._context = ExitStack()

    def __enter__(self) -> "Experiment":
        # oneDNN keeps 1,024 compiled kernels, each for one shape, and hardly two batches have one number of tokens:
        # in a long run that is gigabytes. A step needs some tens.
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
        with ExitStack() as stack:
            stack.enter_context(preserved_caller_state())
            self.accelerator = make_accelerator(self.compute, self.transformer)
            self.heartbeat = stack.enter_context(Heartbeat(self.accelerator, 60 * self.compute.timeout))
            logging.disable_progress_bar()  # a bar for each file read or written hides the one of training
            world = self.accelerator.num_processes
            self.training = on_processes(self.training, self.begun, world, self.run.elastic)
            self.stored |= {each.name: getattr(self.training, each.name) for each in fields(self.training)}
            del self.stored["smallest_batch"], self.stored["global_batch"]  # (no settings, but what follows from them)
            use_threads(self.compute.threads)
            tune_malloc()
            # The first process of a machine at a file's lock prepares, and the others wait there: collectives would
            # give up.
            self.patience = Patience()
            self._context = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        with self._context:
            if error[1] is not None:
                report_to_others(error[1])
            else:
                self.patience.wait()  # for the main process, which scores
                self.heartbeat.stop()
                if self.run.command:
                    self.accelerator.end_training()
                else:  # (other runs of this script need the processes)
                    for tracker in self.accelerator.trackers:
                        tracker.finish()

    def open_corpus(self, data: DataSettings, custom_corpus: Any = None) -> Corpus:
        """The text: sentences in documents, a tenth of them held out (:meth:`sentemb.corpus.Corpus.split`).

        Args:
            data: which text, and how long its sentences may be.
            custom_corpus: the caller's texts, documents, pairs or data set (:func:`sentemb.open_corpus`), in place of
                ``data.corpus``.
        """
        self.data = data
        build(CLEANINGS, data.clean, "clean")
        text = str(data.corpus) if custom_corpus is None else custom_corpus
        corpus = open_corpus(text, language=data.language)
        begun_with = self.begun.get("corpus", {}).get("fingerprint", corpus.fingerprint)
        if custom_corpus is None and corpus.fingerprint != begun_with:  # (it may be of an older version)
            corpus_of_lines = open_corpus(with_lines(str(data.corpus)), language=data.language)
            corpus = corpus_of_lines if corpus_of_lines.fingerprint == begun_with else corpus
        if self.begun:  # its documents stay on the sides that they were on
            corpus = replace(corpus, least_held_out=least_held_out(self.begun))
        self.train_rows, _ = corpus.split()
        self.stored |= asdict(data)
        return corpus

    def make_encoder(
        self, encoder: EncoderSettings, corpus: Corpus, custom_encoder: SentenceTransformer | None = None
    ) -> SentenceTransformer:
        """The encoder that is trained: made from its spec or a finished model; or ``custom_encoder``, in place."""
        if custom_encoder is None:
            check_encoder(encoder)
        set_seed(self.training.seed)
        self.encoder = encoder
        model = make_model(encoder, corpus, self.train_rows, self.data.max_length, custom_encoder)
        self.prompts = prompts_begun_with(self.begun, prompts_of(model))
        if encoder.lora is not None:
            self.adapters = LoraAdapters(model, parse_lora(encoder.lora))
            self._context.callback(self.adapters.merge)  # (also where the run fails: the model may be the caller's)
        self.stored |= asdict(encoder)
        if self.made_objective is not None:  # (before hours of work)
            self.made_objective.refuse_too_short(tower_dimension(model))
        return model

    def make_pairs(
        self,
        pairs: PairSettings,
        corpus: Corpus,
        model: SentenceTransformer,
        custom_pairs: Callable[..., Pairs] | None = None,
        prepared: PreparedData | None = None,
    ) -> PreparedData:
        """The positive pairs of the training documents, as token ids, and a teacher's and a guide's embeddings of them.

        Args:
            pairs: which sentences belong together.
            corpus: the text.
            model: its tokenizer makes the token ids.
            custom_pairs: the caller's function, in place of ``pairs.pairs``.
            prepared: those of another run with the same corpus, settings of data and pairs, seed, tokenizer and
                prompts, in place.
        """
        ranges, negatives = self.train_rows, parse_negatives(pairs.negatives)
        if self.data.teacher_sentences is not None:
            ranges = sentence_runs(ranges, self.data.teacher_sentences)
        if prepared is None:
            seed = self.training.seed
            prepared = prepare_data(self.data, pairs, corpus, ranges, model, self.prompts, seed, custom_pairs)
        if prepared.training.pairs.are_contiguous and len(towers_of(model)) == 1 and not self.prompts.alike:
            raise InputError(
                "prompts of two kinds need pairs of two sides, and a sentence of --pairs contiguous is on both; give "
                "both sides one prompt, or --towers 2"
            )
        refuse_no_noise(model, prepared.training.pairs, pairs.force)
        self.stored |= asdict(pairs)
        if negatives is not None and prepared.mined is None:
            prepared.training.pairs.refuse_passages("--negatives")
            refuse_no_use_of_negatives(self.made_objective, prepared.training.pairs)
            computation = Computation(
                self.accelerator.device,
                self.data.max_length,
                self.prompts,
                self.accelerator.mixed_precision == "bf16",
                partial(precision_of, self.compute),
            )
            prepared = with_mined_negatives(prepared, negatives, corpus, computation, self.begun)
        self.chosen_teacher = self._choose_teacher(model)
        if self.made_objective is not None:  # (before hours of work)
            refuse_unused_guide(self.data, self.made_objective, prepared.training.pairs)
        device, chosen = self.accelerator.device, self.chosen_teacher
        training, self.teacher, self.guide = with_embeddings(
            prepared.training, chosen, self.data, self.compute, corpus, ranges, device, self.begun
        )
        # (The same object, where nothing was added: encoders that share their data are trained together.)
        return prepared if training is prepared.training else replace(prepared, training=training)

    def _choose_teacher(self, model: SentenceTransformer) -> ChosenTeacher | None:
        """Choose the teacher; an objective that is made later is checked later."""
        objective, towers = self.made_objective, len(towers_of(model))
        has_head = objective is not None and (self.custom_head is not None or self.objective.head != "none")
        return chosen_teacher(objective, self.data, self.encoder, has_head, self.prompts, towers)

    def make_objective(
        self,
        objective: ObjectiveSettings,
        custom_objective: Objective | None = None,
        custom_head: nn.Module | None = None,
    ) -> Objective:
        """The objective and the head before it: made from their specs, or the caller's."""
        self.objective, self.custom_head = objective, custom_head
        if custom_head is None:
            check(HEADS, objective.head, "head", ("dimension",))
        made: Objective = build_objective(objective.objective) if custom_objective is None else custom_objective
        if objective.matryoshka is not None:
            made = Matryoshka(made, parse_prefixes(objective.matryoshka))
        self.stored |= asdict(objective)
        self.made_objective = made
        return made

    def train(
        self,
        corpus: Corpus,
        model: SentenceTransformer,
        data: PreparedData,
        objective: Objective,
        evaluation: EvaluationSettings,
        dev: DevScore | None = None,
    ) -> TrainedRun:
        """Train ``model`` on ``data`` by ``objective``, and score and save it into the run folder.

        Args:
            corpus: whose held-out documents score the model.
            model: trained in place.
            data: positive pairs.
            objective: their loss.
            evaluation: which model becomes model/: the last one or the best one.
            dev: the score by which the best model is chosen; None: MRR of held-out pairs.

        Raises:
            FloatingPointError, TrainingFailed: as :func:`sentemb.training.fit`.
            InputError: something that was given does not fit; nothing has been written by then.
        """
        begun = self.begin(corpus, model, data, objective, evaluation, dev)
        if isinstance(begun, TrainedRun):
            return begun
        lane = begun.lane
        result = fit(
            lane.encoder, objective, data.training, lane.settings, self.accelerator, lane.target, lane.evaluation
        )
        return self.end(begun, result)

    def begin(
        self,
        corpus: Corpus,
        model: SentenceTransformer,
        data: PreparedData,
        objective: Objective,
        evaluation: EvaluationSettings,
        dev: DevScore | None = None,
    ) -> BegunRun | TrainedRun:
        """Do what :meth:`train` does before the first update; return the run itself if it is finished."""
        for part in (model, *towers_of(model)):
            part.similarity_fn_name = objective.similarity  # type: ignore[assignment]
        training_encoder = self._training_encoder(model, objective, data)
        pairs, reference = held_out_pairs(corpus), None
        by_teacher = dev is None and evaluation.dev == "teacher"
        if by_teacher and self.data.teacher is None:
            raise InputError("--dev teacher is for runs with --teacher; give one, or choose stsb or heldout")
        if self.chosen_teacher is not None and self.teacher is not None:
            targets, device = data.training.teacher, self.accelerator.device
            reference = reference_of(self.chosen_teacher, self.data, corpus, pairs, device, self.teacher, targets)
            if by_teacher and (reference is None or len(reference.sentences) < LEAST_SENTENCES):
                raise InputError(
                    f"--dev teacher needs {LEAST_SENTENCES} distinct held-out sentences, and {corpus.name} has fewer; "
                    "give more text, or choose --dev heldout"
                )
        self.stored |= asdict(evaluation) | {"dev": dev.spec if dev else "teacher" if by_teacher else "heldout"}
        description, notes = self._describe(training_encoder, objective, data)
        notes.append(f"held out: {pairs.source}")
        steps, new, reported = description.steps, not self.begun, self.run.command
        self.patience.wait()  # for other machines, which prepare for themselves
        temporary = not self.run.command
        out = self._context.enter_context(claimed(self.run.out, self.name, self.accelerator, new, temporary))
        done = not new and finished(out, steps, self.begun, evaluation, reported)
        if not new:
            refuse_another_run(out, self.begun, corpus, self.accelerator, done)
        if done:
            folder = RunFolder(out)
            self.accelerator.print(f"{out} is finished: {folder.model}, {folder.report}")
            model = load(folder.model, device="cpu")
            return TrainedRun(
                out,
                model,
                None,
                pairs,
                steps,
                steps,
                f"{steps} steps",
                is_main_process=self.accelerator.is_main_process,
            )
        if note := word_pieces(corpus, tokenizer_of(model)).note:
            notes.append(note)
        target = self._begin(out, corpus, model, description, notes)
        forget_best = dev is None and not by_teacher and description.retrieval != self._retrieval_before(data, model)
        name = dev.name if dev else TEACHER_SIMILARITY if by_teacher else RETRIEVAL

        untrained, memory = copy_without_adapters(model), EmbeddingMemory()
        memory.of(untrained, "untrained")
        to_teacher = partial(in_space_of_teacher, training_encoder, objective)
        prefixes = description.prefixes
        scored = ScoresOfTraining(pairs, dev, memory, self.text_tokens, reference, to_teacher, prefixes)
        lane = Lane(
            training_encoder,
            objective,
            self.training,
            replace(target, forget_best=forget_best),
            Evaluation(scored.measure, name, self.saves_selected),
        )
        return BegunRun(lane, corpus, untrained, pairs, evaluation, memory, reference)

    def end(self, begun: BegunRun, result: FitResult) -> TrainedRun:
        """Do what :meth:`train` does after the last update: save the model, or say how to resume."""
        out, model = begun.lane.target.folder, begun.lane.encoder.model
        run = self._end(out, begun.corpus, model, begun.untrained, begun.pairs, result, begun.evaluation)
        texts = named_texts(begun.corpus, self.train_rows)
        return replace(run, embeddings=begun.memory, reference=begun.reference, texts=texts)

    def _training_encoder(
        self, model: SentenceTransformer, objective: Objective, data: PreparedData
    ) -> TrainingEncoder:
        """The training forward of the model, with its head and side task; InputError where something does not fit."""
        teacher = data.training.teacher
        refuse_misfit(objective, data.training.pairs, len(towers_of(model)), teacher, data.training.guide)
        attention, training = self.encoder.attention, self.training
        if training.compile and attention == "packed":
            raise InputError("--compile and --attention packed exclude each other; leave one of them out")
        mlm = MaskedWords(model) if training.mlm else None
        head = self.custom_head
        if head is None:
            head = build(HEADS, self.objective.head, "head", dimension=tower_dimension(model))
        packable = attention != "auto" or not training.compile  # a packed forward does not compile
        encoder = TrainingEncoder(model, head, mlm, attention if packable else "padded")
        refuse_other_dimension(objective, encoder, teacher)
        return encoder

    def _describe(
        self, encoder: TrainingEncoder, objective: Objective, data: PreparedData
    ) -> tuple[RunDescription, list[str]]:
        """The facts of the run for config.json, and notes to print."""
        pairs, world, model = data.training.pairs, self.accelerator.num_processes, encoder.model
        sides = sides_of(model, CachedEncoder(model))
        description = RunDescription(
            text=describe(self.training, objective, pairs, self.accelerator, encoder, data.training.guide),
            steps=total_steps(self.training, len(pairs), world),
            smallest_batch=self.training.smallest_batch or 2 * world,
            global_batch=self.training.pairs_per_update(world),
            pairs=len(pairs),
            cleaned=data.cleaned,
            prompts=self.prompts,
            retrieval={"score": sides.score, "sides": sides.names},
            teacher=self.teacher,
            guide=self.guide,
            negatives=data.mined,
            prefixes=shorter_prefixes(self.objective.matryoshka, tower_dimension(model)),
        )
        notes = [str(data.cleaned)] if data.cleaned else []
        notes += prompt_notes(self.prompts) + passage_notes(pairs) + mining_notes(data.mined, pairs)
        notes += adapter_notes(self.adapters)
        if encoder.mlm is not None and encoder.mlm.new:
            notes.append("the checkpoint has no masked-language-model head; a new one is trained along")
        notes += long_warmup(self.training, description.steps)
        notes += differences(self.training, self.begun, world, description.steps, len(pairs))
        before = self._retrieval_before(data, model)
        notes += changed_meanings(self.begun, self.prompts, prompts_of(model), description.retrieval, before)
        return description, notes

    def _retrieval_before(self, data: PreparedData, model: SentenceTransformer) -> dict[str, str] | None:
        return retrieval_before(self.begun, len(towers_of(model)), data.training.pairs.are_contiguous)

    def _begin(
        self, out: Path, corpus: Corpus, model: SentenceTransformer, description: RunDescription, notes: list[str]
    ) -> RunTarget:
        """Check the run folder, print what is trained, and write config.json."""
        accelerator = self.accelerator
        # InputErrors, if there are files of others, or all checkpoints are damaged; nothing is written then
        on_main(partial(refuse_foreign, out, bool(self.begun), self._other_files(out)), accelerator)
        point = agreed_checkpoint(out, accelerator) if self.begun else False
        accelerator.project_configuration.project_dir = accelerator.project_configuration.logging_dir = str(out)
        accelerator.print(f"run folder: {out}")
        accelerator.print(description.text)
        for note in (*corpus_notes(corpus), *notes):
            accelerator.print(f"note: {note}")
        if accelerator.is_main_process:
            for path in (RunFolder(out).report, RunFolder(out).scores, RunFolder(out).search):  # of a finished run
                path.unlink(missing_ok=True)
            write_config(out, self.stored, description, corpus, model, accelerator, self.begun)
        if self.compute.track:
            accelerator.init_trackers("sentemb", config={k: v for k, v in self.stored.items() if v is not None})
        self.heartbeat.advice = partial(last_checkpoint_of, out)
        files = self._other_files(out)
        return RunTarget(out, point, files, exit_on_second_signal=self.run.command)

    def _other_files(self, out: Path) -> list[str]:
        """Names in a run folder that training does not write: of this class, of trackers, and of what people put."""
        return on_main(
            lambda: [path.name for path in out.iterdir() if path.name not in TRAINED_FOLDERS], self.accelerator
        )

    def _end(
        self,
        out: Path,
        corpus: Corpus,
        model: SentenceTransformer,
        untrained: SentenceTransformer,
        pairs: HeldOutPairs,
        result: FitResult,
        evaluation: EvaluationSettings,
    ) -> TrainedRun:
        """Say how to resume an interrupted run, or save the model of one that has ended."""
        folder, main = RunFolder(out), self.accelerator.is_main_process
        if self.adapters is not None:
            self.adapters.merge()
        trained = f"{result.step} steps"
        if result.interrupted:
            if main:
                tell(
                    f"stopped after step {result.step} of {result.steps}, saved in {result.checkpoint}; resume with\n"
                    f"    {how_to_resume(out, self.run.command)}"
                )
        elif main:
            if self.run.command:
                model.to("cpu")
            if evaluation.select == "best":
                model, trained = load(folder.best, device="cpu"), selected(folder.best)
            write_folder(folder.model, lambda partial: save_trained_model(partial, model, self.stored, corpus, trained))
        return TrainedRun(out, model, untrained, pairs, result.step, result.steps, trained, result.interrupted, main)

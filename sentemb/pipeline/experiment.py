"""One training run, stage by stage: corpus, encoder, pairs, objective, training.

The recipes and :func:`sentemb.train` go through the same stages. Each stage takes settings, or the caller's own object
in their place. Nothing is written into the run folder before all settings are checked.
"""

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from sentence_transformers import SentenceTransformer

from sentemb.corpus import Corpus, word_pieces
from sentemb.encoders import (
    HEADS,
    copy_without_adapters,
    load,
    prompts_of,
    tokenizer_of,
    towers_of,
)
from sentemb.errors import InputError
from sentemb.forward import MaskedWords, TrainingEncoder
from sentemb.mining import mining_notes
from sentemb.objectives import Objective
from sentemb.pipeline.claim import claimed
from sentemb.pipeline.config_file import RunDescription, write_config
from sentemb.pipeline.data import PreparedData
from sentemb.pipeline.model import named_texts, tower_dimension
from sentemb.pipeline.notes import adapter_notes, corpus_notes, long_warmup, passage_notes, prompt_notes
from sentemb.pipeline.resume import (
    changed_meanings,
    differences,
    finished,
    how_to_resume,
    refuse_another_run,
    retrieval_before,
)
from sentemb.pipeline.run_preparation import RunPreparation
from sentemb.pipeline.saved_model import save_trained_model, selected
from sentemb.pipeline.settings import (
    EvaluationSettings,
)
from sentemb.pipeline.teaching import reference_of
from sentemb.pipeline.trained_run import TrainedRun
from sentemb.pipeline.training_scores import ScoresOfTraining, in_space_of_teacher
from sentemb.registry import build
from sentemb.runs import (
    TRAINED_FOLDERS,
    RunFolder,
    refuse_foreign,
    shorter_prefixes,
)
from sentemb.storage import write_folder
from sentemb.training import (
    Evaluation,
    FitResult,
    Lane,
    RunTarget,
    agreed_checkpoint,
    describe,
    fit,
    last_checkpoint_of,
    on_main,
    refuse_misfit,
    refuse_other_dimension,
    tell,
    total_steps,
)
from sentemb.validation import (
    LEAST_SENTENCES,
    RETRIEVAL,
    TEACHER_SIMILARITY,
    CachedEncoder,
    DevScore,
    EmbeddingMemory,
    HeldOutPairs,
    TeacherReference,
    held_out_pairs,
    sides_of,
)


@dataclass(frozen=True)
class BegunRun:
    """A run before its first update: all is checked, its folder is claimed and has a config.json."""

    lane: Lane  # what is trained, how and where
    corpus: Corpus
    untrained: SentenceTransformer  # a copy of the model
    pairs: HeldOutPairs
    evaluation: EvaluationSettings
    memory: EmbeddingMemory  # of the scores during training
    reference: TeacherReference | None = None  # of its teacher


class Experiment(RunPreparation):
    """One training run: its preparation, training, and what it leaves in its folder."""

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

"""What a run makes before it trains: its processes, corpus, encoder, pairs and objective."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from accelerate.utils import set_seed
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers.utils import logging

from sentemb.corpus import CLEANINGS, Corpus, open_corpus, with_lines
from sentemb.encoders import (
    HEADS,
    LoraAdapters,
    Prompts,
    parse_lora,
    prompts_of,
    towers_of,
)
from sentemb.errors import InputError
from sentemb.mining import Computation, parse_negatives, refuse_no_use_of_negatives
from sentemb.objectives import Matryoshka, Objective, build_objective
from sentemb.pairs import Pairs
from sentemb.pipeline.data import PreparedData, prepare_data, with_mined_negatives
from sentemb.pipeline.model import check_encoder, make_model, refuse_no_noise, tower_dimension
from sentemb.pipeline.processes import make_accelerator, precision_of, preserved_caller_state
from sentemb.pipeline.resume import (
    config_begun,
    on_processes,
    prompts_begun_with,
)
from sentemb.pipeline.settings import (
    ComputeSettings,
    DataSettings,
    EncoderSettings,
    ObjectiveSettings,
    PairSettings,
    RunSettings,
)
from sentemb.pipeline.teaching import ChosenTeacher, chosen_teacher, refuse_unused_guide, with_embeddings
from sentemb.registry import build, check
from sentemb.runs import (
    least_held_out,
    parse_prefixes,
)
from sentemb.teacher import sentence_runs
from sentemb.training import (
    Heartbeat,
    Patience,
    TrainingSettings,
    report_to_others,
    tune_memory,
    use_threads,
)
from sentemb.validation import (
    TextTokens,
)


class RunPreparation:
    """The stages of a run before training, as a context: processes and random states are put in order at its end.

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

    def __enter__(self) -> Self:
        tune_memory()
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
        ranges, seed, negatives = self.train_rows, self.training.seed, parse_negatives(pairs.negatives)
        if self.data.teacher_sentences is not None:
            ranges = sentence_runs(ranges, self.data.teacher_sentences)
        if prepared is None:
            prepared = prepare_data(self.data, pairs, corpus, ranges, model, self.prompts, seed, custom_pairs)
        if prepared.training.pairs.are_contiguous and len(towers_of(model)) == 1 and not self.prompts.alike:
            raise InputError(
                "prompts of two kinds need pairs of two sides, and a sentence of --pairs contiguous is on both; give "
                "both sides one prompt, or --towers 2"
            )
        refuse_no_noise(model, prepared.training.pairs, pairs.force)
        self.stored |= asdict(pairs)
        if negatives is not None and prepared.mined is None:
            refuse_no_use_of_negatives(self.made_objective, prepared.training.pairs)
            computation = Computation(
                self.accelerator.device,
                self.data.max_length,
                self.prompts,
                self.accelerator.mixed_precision == "bf16",
                partial(precision_of, self.compute),
            )
            prepared = with_mined_negatives(prepared, negatives, corpus, computation, self.begun, seed)
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

"""Settings of the corpus and of the masked examples that are made from it."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from raysweep.config.section import NAME, BoundedCount, Distinct, Fraction, PositiveFloat, PositiveInt, Section
from raysweep.storage.printable import shown

Format = Literal["csv", "tsv", "json", "jsonl", "parquet", "excel", "xml", "text"]
LayoutName = Literal[
    "efcamdat", "efcamdat_xml", "write_and_improve", "wi_locness", "icnale", "asag", "universal_cefr", "ellipse",
    "cefr_sp", "level_folders",
]  # fmt: skip
SplitName = Literal["train", "valid", "test"]


class ColumnsConfig(Section):
    """Names of the corpus's columns; absent names are those of the layout, or the usual names."""

    id: str | None = Field(
        None, description="a different value for each document; if absent: writing_id, or made from the row number"
    )
    l1: str | None = Field(None, description="the writer's first language; if absent: l1, or unknown")
    level: str | None = Field(None, description="the document's level; if absent: cefr_level")
    text: str | None = Field(None, description="the document itself; if absent: text")
    learner: str | None = Field(None, description="the writer, whose documents all go to one split")
    prompt: str | None = Field(None, description="the task that the document answers")
    split: str | None = Field(
        None, description="published splits, which are kept; '@file' reads them from the names of the files"
    )
    date: str | None = Field(None, description="date of writing; copied to documents.parquet")
    score: str | None = Field(None, description="grade; copied to documents.parquet")


class SampleConfig(Section):
    """The synthetic corpus that is used when `data.path` is not given."""

    rows: Annotated[int, Field(ge=10, le=10_000_000)] = Field(3000, description="documents to generate")
    level_shares: dict[str, PositiveFloat] | None = Field(
        None, description="relative number of documents per level; EFCAMDAT's shares if absent"
    )


class SplitConfig(Section):
    """The share of documents in each split, for every level, and what two splits must not share."""

    unit: Literal["learner", "prompt", "both"] = Field(
        "learner",
        description="what is kept in one split; both: documents whose learner and prompt are in different splits are "
        "set aside",
    )

    train: Fraction = 0.8
    valid: Fraction = 0.1
    test: Fraction = 0.1

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = self.train + self.valid + self.test
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"train, valid and test add up to {total:g}; must add up to 1")
        if min(self.train, self.valid, self.test) <= 0.0:
            raise ValueError("each of train, valid and test must be above 0")
        return self


class NearDuplicatesConfig(Section):
    """Texts that are almost the same, such as a corrected copy."""

    threshold: Annotated[float, Field(ge=0.5, le=1.0)] = Field(
        0.9, description="least share of the longer text's words that two such texts have in common, in order"
    )
    action: Literal["group", "report"] = Field(
        "group", description="group: they go to one split; report: they are only counted"
    )


class SourceConfig(Section):
    """The files of a corpus, and the settings for reading them."""

    path: str | Annotated[tuple[str, ...], Distinct] | None = Field(
        None, description="a file, several files, a glob, a folder or an address; the synthetic sample if absent"
    )
    format: Format | None = Field(None, description="format of the files; recognised by the content if absent")
    encoding: str = Field("utf-8", description="encoding of text files, such as cp1252 or utf-16")
    quotes: Literal["double", "none"] = Field(
        "double", description="none: a quotation mark in delimited files is an ordinary character"
    )
    sheet: str | None = Field(None, description="the sheet to read of a workbook with several sheets")
    layout: LayoutName | None = Field(None, description="columns, levels and markup of a known corpus")
    clean: bool | None = Field(
        None, description="unwrap markup such as <br>, &amp; and tags; if absent, the layout decides, otherwise false"
    )
    columns: ColumnsConfig = ColumnsConfig()
    level_aliases: dict[str, str] = Field({}, description="other spellings of a level, such as {'1': A1}")
    leave_out: Annotated[tuple[str, ...], Distinct] = Field(
        (), description="levels, as the corpus spells them, whose rows are left out; '' for rows without one"
    )
    max_bad_fraction: Fraction = Field(0.01, description="the run stops if a larger share of the rows is quarantined")

    @field_validator("encoding")
    @classmethod
    def _is_an_encoding(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except (LookupError, UnicodeError, ValueError):
            raise ValueError(f"{shown(encoding)} is no known encoding; usual ones are utf-8, cp1252, utf-16") from None
        return encoding


class DataConfig(SourceConfig):
    """The corpus."""

    csv: str | None = Field(None, exclude=True, description="another name for `path`")
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")] = Field(
        "en", description="language of the texts (ISO 639 code), which determines where sentences and words end"
    )
    sample: SampleConfig = SampleConfig()
    levels: Annotated[tuple[str, ...], Distinct] = Field(
        ("A1", "A2", "B1", "B2", "C1"), description="known levels, lowest first"
    )
    split_names: dict[str, SplitName] = Field(
        {}, description="other names in the split column, such as {dev: test}; usual names are known"
    )
    split: SplitConfig = SplitConfig()
    near_duplicates: NearDuplicatesConfig = NearDuplicatesConfig()
    export_ilm: bool = Field(False, description="also write ILM's train.txt, valid.txt and test.txt per model")

    @model_validator(mode="after")
    def _has_one_name(self) -> Self:
        """Move `csv` to `path`."""
        if self.csv is not None:
            if self.path is not None:
                raise ValueError("csv and path are two names of one setting; must be given once")
            self.__dict__.update(path=self.csv, csv=None)  # a frozen model refuses assignments
        return self

    @field_validator("levels")
    @classmethod
    def _are_names(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        if not levels:
            raise ValueError("must name at least one level")
        seen: dict[str, str] = {}
        for level in levels:
            if not NAME.match(level) or len(level) > 40:
                must = "must start with a letter or digit and hold at most 40 letters, digits, . _ + -"
                raise ValueError(f"{shown(level)} {must}")
            if (first := seen.setdefault(level.casefold(), level)) != level:
                raise ValueError(f"{first!r} and {level!r} differ in upper and lower case alone; must differ in more")
        return levels

    @model_validator(mode="after")
    def _left_out_are_other_levels(self) -> Self:
        for level in self.leave_out:
            if level in self.levels:
                raise ValueError(f"leave_out: {shown(level)} is one of the levels; remove it there or here")
        return self

    @model_validator(mode="after")
    def _aliases_lead_to_levels(self) -> Self:
        for alias, level in self.level_aliases.items():
            if alias in self.levels and level != alias:
                raise ValueError(f"level_aliases.{alias}: found {level!r}; {alias!r} is itself one of the levels")
            if level not in self.levels and level not in self.leave_out:
                raise ValueError(
                    f"level_aliases.{alias}: {shown(level)} is not one of the levels {', '.join(self.levels)}"
                )
        return self


class MaskingConfig(Section):
    """Settings for making examples: the hierarchical mask of ILM (Donahue, Lee and Liang 2020)."""

    document: Fraction = Field(0.03, description="probability that the whole document is one span")
    paragraph: Fraction = Field(0.03, description="probability that a paragraph is a span, if the document is not")
    sentence: Fraction = Field(0.03, description="probability that a sentence is a span, if its paragraph is not")
    word: Fraction = Field(0.03, description="probability that a span starts at a word, if its sentence is not a span")
    ngram: Fraction = Field(0.5, description="probability that a span starting at a word is an n-gram")
    max_ngram: Annotated[int, Field(ge=1, le=1024)] = Field(8, description="words in the longest n-gram")
    examples_per_document: Annotated[int, Field(ge=1, le=255)] = 16
    max_draws: Annotated[int, Field(ge=1, le=10_000)] = Field(
        16, description="draws per example before a repeated mask is left out"
    )
    min_spans: BoundedCount = Field(0, description="a mask with fewer spans is drawn again")
    max_spans: PositiveInt | None = Field(None, description="a mask with more spans is randomly thinned out")
    max_tokens: Annotated[int, Field(ge=8, le=1024)] = Field(256, description="tokens in an example")
    overflow: Literal["window", "truncate", "drop"] = Field(
        "window",
        description="an example over max_tokens becomes a window of sentences around spans, is cut, or is dropped",
    )
    function: str | None = Field(None, description="a custom mask function, 'package.module:function'")
    shard_documents: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        8192, description="documents per shard of the example store"
    )
